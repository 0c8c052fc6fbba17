"""What every process is made of: settings, logs, signals, health, and how it starts and stops.

Nothing here knows a job.
"""

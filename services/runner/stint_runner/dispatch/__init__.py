"""Where jobs come from: queues that are pulled, deliveries that are processed, jobs adopted or taken over.

What a job does is in `stint_runner.job`.
"""

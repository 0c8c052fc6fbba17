"""What is answered about jobs, queues and runners.

`job` reads one job from the log, `listing` many from the index. Commands change a job by an event.
"""

"""What is answered about jobs: from the log for one job, from the index for lists."""

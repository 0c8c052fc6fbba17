"""Commands about what runs the jobs: queues, runners, and what happens everywhere."""

"""The runner: takes jobs from their queues and runs each in a container."""

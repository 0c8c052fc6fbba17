"""What a runner does beside its jobs: it announces itself, and removes what jobs left behind."""

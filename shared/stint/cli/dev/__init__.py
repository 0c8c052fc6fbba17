"""`stint dev`: the embedded stack, and what it needs on a bare machine."""

"""How a submission is taken: its body read, its payload sealed, its facts appended."""

"""How a submission is accepted: its body is read, its payload sealed, its event appended."""

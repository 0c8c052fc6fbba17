"""One job: its events and output, at once or as they come."""

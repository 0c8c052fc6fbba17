"""What stands around every route: the gate, metrics and the access log."""

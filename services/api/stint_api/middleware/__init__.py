"""What stands around every route: the gate, metrics and access log, and the watch over streams."""

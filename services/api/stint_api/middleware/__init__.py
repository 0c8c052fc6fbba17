"""What stands around every route: the gate, the access log, metrics, and the watch over streams."""

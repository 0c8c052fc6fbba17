"""How long a delivery is ours: the lease, its heartbeat, and what the log says meanwhile."""

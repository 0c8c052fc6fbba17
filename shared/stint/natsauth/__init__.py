"""Who may use which subjects of NATS: the roles, their keys, and a nats-server configuration that enforces them.

Knows every subject, and no connection: what a process does with its permissions is in `stint.jetstream`.
"""

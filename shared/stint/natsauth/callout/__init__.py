"""`stint nats-auth`: lets publishers into NATS with their Vault tokens, by the policies that the REST API also asks.

NATS sends each login of a publisher, and of a user whom its configuration does not name, here ("auth callout"). The
room has the formats of that protocol, the rules for tokens and for keys, how much a publisher may send, and the
process; which subjects a publisher gets is in `stint.natsauth.roles`.
"""

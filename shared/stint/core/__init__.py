"""What a job is: its events, the state computed from them, its payload, its view, and every name on the wire.

Everything here is pure: no I/O, no clock, no random ids.
"""

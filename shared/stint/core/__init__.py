"""What a job is: its events, its state, its view; below, its payload, its output, and every name on the wire.

Everything here is pure: no I/O, no clock, no random ids.
"""

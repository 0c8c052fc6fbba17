"""The connection to NATS, and requests over it: addresses, keys, error numbers, headers, answers.

Nothing here knows what a stream is for.
"""

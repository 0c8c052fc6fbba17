"""Durable consumers: those of the work queues with their deliveries, and the projectors' feed.

What only reads a stream is one floor up.
"""

"""The stream EVENTS: what writes events of jobs and operations, and what reads them, by job or in their order.

What delivers events to the projector, with acknowledgements, is in `consuming`.
"""

"""Requests to Stint's REST API, repeated where that is safe, and what its answers mean.

What a job, a queue or an entry of the audit is belongs to the modules that ask.
"""

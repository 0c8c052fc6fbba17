"""What a job asks for: its payload, its limits, and how such JSON is read within bounds.

How a payload is sealed is in `stint.vault`; what becomes of the job is in `stint.core.events` and `stint.core.job`.
"""

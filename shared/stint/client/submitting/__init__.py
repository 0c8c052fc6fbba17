"""How a job is made ready for its submission: its content packed, its payload sealed, its ticket wrapped.

What is asked of Vault belongs here. What is asked of Stint is in `stint.client.rest`.
"""

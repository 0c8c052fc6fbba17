"""The projector: computes the view from the event log, ends lost jobs, and removes what is no longer kept.

It decides nothing about healthy jobs, and never talks to Vault.
"""

"""How fast Stint is: each row of the table is a ratio of two things that were measured in the same run.

`make bench` runs all of them, `make bench ARGS=--only=api` one group. No test asserts a time.
"""

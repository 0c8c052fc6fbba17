"""Hostile input for everything that reads bytes from outside: one module for each target, and a corpus of cases.

A target says what must hold for any bytes. `test_targets.py` tries the corpus, changed cases of it, and random bytes.
What was found is a case in the corpus, whose name says what it shows.
"""

"""Writes what the documents say about the code, from the code itself.

The texts around that are written by hand, in `docs`.
"""

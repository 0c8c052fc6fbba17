"""The streams themselves: which there are, requests to one of them or to a bucket, and what keeps them right.

What Stint stores in them, and what delivers it, is in the rooms beside this one.
"""

"""The routes: what they take and give, and the document that describes them.

They decide nothing: what they answer comes from `submit` and `read`.
"""

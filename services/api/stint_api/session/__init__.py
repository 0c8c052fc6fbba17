"""Who is signed in to the page: the session's cookie, when it counts, and where sessions are kept.

What the page shows is in `page`; what a caller may do is decided by Vault, with the session's token.
"""

"""`stint doctor`: looks at everything that a client, an API or a runner on this machine needs, and says what to mend.

A check raises nothing: what it finds, also that it cannot look, is a finding.
"""

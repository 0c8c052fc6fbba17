"""Who caused what, and what proves it: operators' actions, signatures of events, receipts, and the trail of all that.

What a job is and how it goes does not belong here.
"""

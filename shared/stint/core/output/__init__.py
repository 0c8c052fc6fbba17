"""What a job's output is made of: chunks, chained by digest, and the lines that begin in them.

How output gets into its stream and out again is the adapters' matter.
"""

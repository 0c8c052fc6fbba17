"""What a job is: its facts, their fold, its payload, its view, and every name on the wire.

Pure: nothing here does I/O, reads a clock or makes an id.
"""

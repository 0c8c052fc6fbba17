"""The life of one job: claimed, prepared, run, ended and cleaned up after."""

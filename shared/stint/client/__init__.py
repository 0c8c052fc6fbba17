"""The client behind `stint run`, which seals a job, submits it, and follows it to its end, and `stint release`."""

from stint.client.dance import Handover, seal
from stint.client.options import Endpoints, RunOptions
from stint.client.run import run, submit

__all__ = ["Endpoints", "Handover", "RunOptions", "run", "seal", "submit"]

"""The client library: it seals jobs, submits them, and follows them to their end."""

from stint.client.options import Endpoints, RunOptions
from stint.client.submission import Handover, seal

__all__ = ["Endpoints", "Handover", "RunOptions", "seal"]

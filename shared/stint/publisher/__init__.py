"""Submits jobs to NATS without the API, and follows them: for programs with a publisher's credentials.

Needs `pip install 'stint-jobs[nats]'`. The job's fields, its events and its result are those of `stint.client`.
"""

from stint.publisher.job import JobDeletedError, OutputMissedError, PublishedJob
from stint.publisher.publisher import Publisher

__all__ = ["JobDeletedError", "OutputMissedError", "PublishedJob", "Publisher"]

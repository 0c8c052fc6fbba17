"""Submits jobs to NATS without the API, and follows them: for programs with a publisher's credentials.

Needs `pip install 'stint-jobs[nats]'`. The job's fields, its events and its result are those of `stint.client`.
"""

from stint.jetstream.wire.requests import DeniedError
from stint.publisher.job import JobDeletedError, PublishedJob
from stint.publisher.output import OutputMissedError
from stint.publisher.publisher import Publisher, SubmissionInDoubtError, signing

__all__ = [
    "DeniedError",
    "JobDeletedError",
    "OutputMissedError",
    "PublishedJob",
    "Publisher",
    "SubmissionInDoubtError",
    "signing",
]

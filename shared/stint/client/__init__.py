"""The client library: it seals jobs, submits them, and follows them to their end. It needs no terminal.

Programs import it from here. It prints nothing, handles no signals and keeps no global state.
"""

from stint.client.client import Client
from stint.client.errors import ApiError, ApiRefusedError, ApiUnreachableError, OutputDiffersError
from stint.client.fields import JobFields, JobFilter, payload_of
from stint.client.fleet import AuditEntry, JobChange, Pause, QueueInfo, RunnerInfo, SecretUse
from stint.client.job import JobHandle
from stint.client.options import Endpoints, endpoints
from stint.client.receipts import ForgedReceiptError, PublicKeys, UnknownKeyError, check_receipt
from stint.client.results import Fact, JobEvent, JobFailedError, JobInfo, JobResult, Output, Phase
from stint.client.submitting.sealing import Sealed
from stint.client.sync import SyncClient, SyncJob
from stint.core.audit.receipt import Receipt, Statement

__all__ = [
    "ApiError",
    "ApiRefusedError",
    "ApiUnreachableError",
    "AuditEntry",
    "Client",
    "Endpoints",
    "Fact",
    "ForgedReceiptError",
    "JobChange",
    "JobEvent",
    "JobFailedError",
    "JobFields",
    "JobFilter",
    "JobHandle",
    "JobInfo",
    "JobResult",
    "Output",
    "OutputDiffersError",
    "Pause",
    "Phase",
    "PublicKeys",
    "QueueInfo",
    "Receipt",
    "RunnerInfo",
    "Sealed",
    "SecretUse",
    "Statement",
    "SyncClient",
    "SyncJob",
    "UnknownKeyError",
    "check_receipt",
    "endpoints",
    "payload_of",
]

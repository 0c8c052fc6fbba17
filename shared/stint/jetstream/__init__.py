"""Stint's ports, implemented with NATS JetStream. Only this package uses nats-py; it decides nothing about jobs."""

from stint.jetstream.consuming.consumers import make_subscription, pending_jobs, queues_in_use, remove_subscription
from stint.jetstream.consuming.feed import Delivered, EventFeed
from stint.jetstream.consuming.making import serve_consumers
from stint.jetstream.consuming.work_queues import JetStreamWorkQueues
from stint.jetstream.log.events import JetStreamEventLog
from stint.jetstream.log.history import FactsPage, JetStreamFacts, JetStreamHistory
from stint.jetstream.log.operations import JetStreamOperations
from stint.jetstream.output import JetStreamOutput, serve_output
from stint.jetstream.pauses import JetStreamPauses
from stint.jetstream.payloads import JetStreamKept, JetStreamPayloads
from stint.jetstream.phases import JetStreamPhases
from stint.jetstream.removals import serve_removals
from stint.jetstream.signatures import EventSigner, JetStreamKeyOwners, JetStreamSignatures, Signed
from stint.jetstream.streams.bucket import Bucket
from stint.jetstream.streams.clock import ServerClock
from stint.jetstream.streams.sourcing import Sourcing
from stint.jetstream.streams.topology import Streams, declare, declare_when_possible
from stint.jetstream.views import JetStreamViews
from stint.jetstream.wire.access import Access
from stint.jetstream.wire.broker import Broker

__all__ = [
    "Access",
    "Broker",
    "Bucket",
    "Delivered",
    "EventFeed",
    "EventSigner",
    "FactsPage",
    "JetStreamEventLog",
    "JetStreamFacts",
    "JetStreamHistory",
    "JetStreamKept",
    "JetStreamKeyOwners",
    "JetStreamOperations",
    "JetStreamOutput",
    "JetStreamPauses",
    "JetStreamPayloads",
    "JetStreamPhases",
    "JetStreamSignatures",
    "JetStreamViews",
    "JetStreamWorkQueues",
    "ServerClock",
    "Signed",
    "Sourcing",
    "Streams",
    "declare",
    "declare_when_possible",
    "make_subscription",
    "pending_jobs",
    "queues_in_use",
    "remove_subscription",
    "serve_consumers",
    "serve_output",
    "serve_removals",
]

"""Stint's ports, implemented with NATS JetStream. Only this package uses nats-py; it decides nothing about jobs."""

from stint.jetstream.access import Access
from stint.jetstream.broker import Broker
from stint.jetstream.consistency import Sourcing
from stint.jetstream.events import JetStreamEventLog
from stint.jetstream.feed import Delivered, EventFeed
from stint.jetstream.history import JetStreamHistory
from stint.jetstream.output import JetStreamOutput
from stint.jetstream.payloads import JetStreamPayloads
from stint.jetstream.stream import Bucket
from stint.jetstream.topology import declare, declare_when_possible
from stint.jetstream.views import JetStreamViews
from stint.jetstream.work_queues import JetStreamWorkQueues

__all__ = [
    "Access",
    "Broker",
    "Bucket",
    "Delivered",
    "EventFeed",
    "JetStreamEventLog",
    "JetStreamHistory",
    "JetStreamOutput",
    "JetStreamPayloads",
    "JetStreamViews",
    "JetStreamWorkQueues",
    "Sourcing",
    "declare",
    "declare_when_possible",
]

"""The ports to the broker: the event log, the payloads, the output, the work queues and the view.

`stint.jetstream` implements them on NATS JetStream, `stint.testing` in memory (all but the work queues, whose leases
only a real server has); one contract suite runs on both.
Every method raises `BrokerUnavailableError` when the broker cannot be reached or does not answer.

Live messages are triggers: anybody can publish where they are listened to. So `follow` gives an event that is set, and
what counts is read from the streams. Clear the event, then read: what comes in between sets it again.
"""

from stint.ports.events import EventLog, Outcome
from stint.ports.history import History, Place, Stamp, Strays
from stint.ports.output import OutputLog
from stint.ports.payloads import PayloadStore
from stint.ports.views import StoredView, ViewStore
from stint.ports.work_queues import Delivery, WorkQueues

__all__ = [
    "Delivery",
    "EventLog",
    "History",
    "Outcome",
    "OutputLog",
    "PayloadStore",
    "Place",
    "Stamp",
    "StoredView",
    "Strays",
    "ViewStore",
    "WorkQueues",
]

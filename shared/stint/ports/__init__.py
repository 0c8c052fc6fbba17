"""The ports to the broker: the event log, the payloads, the output, the work queues and the views.

`stint.jetstream` implements them with NATS JetStream, `stint.testing` in memory, except the work queues, whose leases
only a real server has, and the pauses. One contract suite tests both.
Every method raises `BrokerUnavailableError` if the broker cannot be reached or does not answer.

Live messages are only triggers, because anybody may publish on their subjects. Therefore `follow` gives `News`, an
`asyncio.Event`, and the data is read from the streams. Clear the event first, then read: a later message sets it again.
"""

from stint.ports.common import News, PhaseChannel, PhaseReport, Place, Stamp, StreamState
from stint.ports.events import EventLog, Fact, History, Outcome, Strays
from stint.ports.stores import KeptPayloads, OutputLog, PayloadStore, StoredView, ViewPut, ViewStore
from stint.ports.work_queues import Delivery, Hint, Look, Pauses, Turn, WorkQueues

__all__ = [
    "Delivery",
    "EventLog",
    "Fact",
    "Hint",
    "History",
    "KeptPayloads",
    "Look",
    "News",
    "Outcome",
    "OutputLog",
    "Pauses",
    "PayloadStore",
    "PhaseChannel",
    "PhaseReport",
    "Place",
    "Stamp",
    "StoredView",
    "Strays",
    "StreamState",
    "Turn",
    "ViewPut",
    "ViewStore",
    "WorkQueues",
]

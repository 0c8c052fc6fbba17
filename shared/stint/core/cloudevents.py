"""Events as CloudEvents 1.0: the headers of the binary mode of their NATS binding. The body stays as it is."""

from collections.abc import Mapping

from stint.core.events import Event
from stint.core.names.headers import CE_DATACONTENTTYPE, CE_ID, CE_SOURCE, CE_SPECVERSION, CE_SUBJECT, CE_TIME, CE_TYPE
from stint.core.names.subjects import EventAddress


def cloudevents(address: EventAddress, event: Event) -> Mapping[str, str]:
    """The headers of an event that is stored at this address. All characters in them are printable ASCII."""
    return {
        CE_SPECVERSION: "1.0",
        CE_ID: event.event_id,
        CE_SOURCE: f"/stint/queues/{address.token}",
        CE_TYPE: address.kind,
        CE_TIME: event.at,
        CE_SUBJECT: address.job_id,
        CE_DATACONTENTTYPE: "application/json",
    }

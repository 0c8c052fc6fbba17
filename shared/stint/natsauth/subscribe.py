"""`stint subscribe`: makes the consumers from which a subscriber takes messages."""

import asyncio
import os
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from stint.cli.errors import importing, reported
from stint.core.errors import BrokerUnavailableError, ConfigError, InvalidQueueNameError, StreamMissingError
from stint.core.names.ids import queue_token
from stint.core.names.streams import EVENTS, LOGS, subscription
from stint.core.names.subjects import event_filter, log_subject
from stint.natsauth.roles import TOLD
from stint.natsauth.users import subscriber_name
from stint.process import logs
from stint.process.environment import load
from stint.process.settings import Settings

WITHIN: Final = 15.0  # seconds that NATS may take

app = typer.Typer(add_completion=False)


@app.command(no_args_is_help=True)
def subscribe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, as in `stint nats-config --subscriber`.")],
    queues: Annotated[
        list[str] | None, typer.Argument(metavar="QUEUE", help="The queues that it is told about.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="It is told about nothing any more.")] = False,
) -> None:
    """Tell a subscriber about the jobs of these queues from now on: their events and their output.

    Needs the operator's key, in STINT_NATS_NKEY_FILE. Can be repeated with other queues: the subscriber continues where
    it was.

    Exit codes: 2 wrong option or setting, 125 NATS cannot be reached or refuses.

    Example: `stint subscribe board deploys reports`
    """
    logs.configure("warning")
    with reported("stint subscribe", usage=(ConfigError, InvalidQueueNameError)):
        consumer = subscription(subscriber_name(name))
        if bool(queues) == remove:
            raise ConfigError("Name the queues, or give --remove.")
        tokens = [queue_token(queue) for queue in queues or ()]
        with importing("nats"):
            asyncio.run(_subscribe(load(Settings, os.environ), consumer, tokens))
    typer.echo(f"{name} is told about {', '.join(queues) if queues else 'nothing'}")


async def _subscribe(settings: Settings, consumer: str, tokens: Sequence[str]) -> None:
    from stint import jetstream  # noqa: PLC0415 - clients do not have the library

    subjects = {
        EVENTS: [event_filter(kind.kind, token) for token in tokens for kind in TOLD],
        LOGS: [log_subject(token, "*") for token in tokens],
    }
    broker = jetstream.Broker(jetstream.Access.of(settings), prefix=settings.js_prefix, name="subscribe")
    try:
        async with broker, asyncio.timeout(WITHIN):
            await broker.while_open(broker.wait_connected())
            for stream, wanted in subjects.items():
                if wanted:
                    await jetstream.make_subscription(broker, stream, consumer, wanted)
                else:
                    await jetstream.remove_subscription(broker, stream, consumer)
    except TimeoutError:
        raise BrokerUnavailableError from None
    except StreamMissingError as error:
        raise StreamMissingError(
            f"{error.sentence} An API or a projector makes the streams: start one first."
        ) from None

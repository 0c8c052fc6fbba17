"""What streams republish as they accept it."""

from collections.abc import Iterator
from contextlib import contextmanager

from nats.aio.client import Client
from nats.aio.msg import Msg

from stint.core.names.subjects import live_filter
from stint.jetstream.wire.protocol import announced_sequence
from stint.jetstream.wire.shared_subscription import SharedSubscription
from stint.ports import News


class LiveEvents:
    """The events of all jobs as they come, for those who follow one of them.

    All share one subscription, which stays. Whenever one with wildcards ends, NATS goes through the ways back of all
    answers to requests of the last seconds: a subscription for each job took a fifth of its CPU at 70 jobs a second.

    Attributes:
        subscription: to be begun before a job is followed.
    """

    def __init__(self, client: Client) -> None:
        self._followers: dict[str, set[News]] = {}
        self.subscription = SharedSubscription(client, live_filter(), self._on_message)

    @contextmanager
    def follow(self, job_id: str) -> Iterator[News]:
        """What is announced of this job, in whatever queue, during the block."""
        news = News()
        self._followers.setdefault(job_id, set()).add(news)
        try:
            yield news
        finally:
            self._followers[job_id].remove(news)
            if not self._followers[job_id]:
                del self._followers[job_id]

    async def _on_message(self, message: Msg) -> None:
        _, job_id, *_ = message.subject.split(".")
        for news in self._followers.get(job_id, ()):
            news.announce(announced_sequence(message))

"""The client without async: the same calls, which wait. An event loop in a thread of its own makes them."""

import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from stint.client.client import PATIENCE, Client
from stint.client.job import JobHandle
from stint.client.loop import LoopThread
from stint.client.options import Endpoints

A = TypeVar("A")
P = ParamSpec("P")
T = TypeVar("T")


class _Sync(Generic[A]):
    """Makes the calls of something that is async."""

    def __init__(self, loop: LoopThread, wrapped: A) -> None:
        self._loop, self._wrapped = loop, wrapped


def _waits(method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[_Sync[A], P], T]:
    """The same method, which waits for its result."""

    @wraps(method)
    def call(self: _Sync[A], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._loop.run(method(self._wrapped, *args, **kwargs))

    return call


def _iterates(
    method: Callable[Concatenate[A, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[_Sync[A], P], Iterator[T]]:
    """The same method, which waits for each item when it is asked for."""

    @wraps(method)
    def call(self: _Sync[A], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._loop.each(method(self._wrapped, *args, **kwargs))

    return call


class SyncJob(_Sync[JobHandle]):
    """See `stint.client.JobHandle`: the same methods, which wait. What is an async generator there is an iterator."""

    @property
    def id(self) -> str:
        """The job's id."""
        return self._wrapped.id

    info = _waits(JobHandle.info)
    stream = _iterates(JobHandle.stream)
    wait = _waits(JobHandle.wait)
    output = _waits(JobHandle.output)
    copy_output = _waits(JobHandle.copy_output)
    receipt = _waits(JobHandle.receipt)
    kill = _waits(JobHandle.kill)
    delete = _waits(JobHandle.delete)
    release = _waits(JobHandle.release)

    def __repr__(self) -> str:
        return f"SyncJob({self.id!r})"


def _waits_for_job(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, JobHandle]],
) -> Callable[Concatenate[_Sync[Client], P], SyncJob]:
    """The same method, whose job is one without async too."""

    @wraps(method)
    def call(self: _Sync[Client], /, *args: P.args, **kwargs: P.kwargs) -> SyncJob:
        return SyncJob(self._loop, self._loop.run(method(self._wrapped, *args, **kwargs)))

    return call


class SyncClient(_Sync[Client]):
    """See `stint.client.Client`, and `SyncJob`. Several threads may use it. Use it with `with`."""

    def __init__(self, client: Client) -> None:
        """The calls of this client, which nobody else uses. Usually `connect` or `from_env` makes it."""
        super().__init__(LoopThread(client.__aexit__), client)

    @classmethod
    def connect(cls, where: Endpoints, *, patience: float = PATIENCE) -> Self:
        """See `Client.connect`."""
        return cls(Client.connect(where, patience=patience))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, *, patience: float = PATIENCE) -> Self:
        """See `Client.from_env`."""
        return cls(Client.from_env(environ, patience=patience))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.close()

    def job(self, job_id: str) -> SyncJob:
        """The job with this id. Nothing is asked yet."""
        return SyncJob(self._loop, self._wrapped.job(job_id))

    submit = _waits_for_job(Client.submit)
    rerun = _waits_for_job(Client.rerun)
    jobs = _iterates(Client.jobs)
    counts = _waits(Client.counts)
    queues = _waits(Client.queues)
    queue = _waits(Client.queue)
    pause = _waits(Client.pause)
    resume = _waits(Client.resume)
    runners = _waits(Client.runners)
    drain = _waits(Client.drain)
    audit = _iterates(Client.audit)
    lineage = _iterates(Client.lineage)
    receipt_keys = _waits(Client.receipt_keys)
    events = _iterates(Client.events)

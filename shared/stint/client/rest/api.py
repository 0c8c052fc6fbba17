"""Requests to Stint's REST API."""

import asyncio
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final, Self

import httpx

from stint.client.errors import ApiError, ApiUnreachableError, UnexpectedAnswerError
from stint.client.rest.connection import body_of, in_doubt, is_ours, refusal, unreachable
from stint.client.rest.live import LiveEvent, lines_of, parse_events
from stint.core.errors import ConfigError
from stint.core.names.ids import is_job_id

PAUSES: Final = (0.2, 0.4, 0.8, 1.6, 3.2)
"""Seconds between attempts if it is not known whether a submission was accepted; long enough for an API to restart."""
FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
"""Seconds between two attempts of anything else, doubled each time."""

JOBS: Final = "/v1/api/job"
_KEY: Final = re.compile(r"[ -~]{1,255}")

Say = Callable[[str], None]


def silent(_sentence: str) -> None:
    """Tell nobody."""


class Attempts:
    """Repeats what is safe to repeat, for `patience` seconds without progress.

    `doubtful` is whether an attempt that failed may have been carried out. `away` is told what will be tried again, if
    the first repetition has failed too: a proxy or an API that restarts may break a connection at any time.
    """

    def __init__(self, patience: float, away: Say = silent) -> None:
        self._patience, self._away = patience, away
        self.doubtful = False
        self.progress()

    def progress(self) -> None:
        """Count the time, and the pauses, from now on."""
        self._pause, self._since = FIRST_PAUSE, asyncio.get_running_loop().time()

    async def next(self, failure: ApiError) -> None:
        """Wait until the next attempt. Raises the failure if it will not pass, or has lasted for too long."""
        self.doubtful = self.doubtful or failure.doubtful
        if not failure.temporary or asyncio.get_running_loop().time() - self._since >= self._patience:
            raise failure
        if self._pause > FIRST_PAUSE:
            self._away(f"{failure.sentence.rstrip('.')}. Trying again, for up to {self._patience:g} s.")
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)


class Api:
    """Requests to the API by this client, which is closed at the end of `async with`.

    Every method raises ApiUnreachableError if there is no connection, or it broke, and ApiRefusedError if the API
    answered with an error.
    """

    def __init__(self, http: httpx.AsyncClient, *, patience: float = 0.0, say: Say = silent) -> None:
        self._http = http
        self._say, self._is_away = say, False
        self.patience = patience

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._http.aclose()

    def away(self, sentence: str) -> None:
        """Say why live streams wait for Stint, once for all of them until it is `back`."""
        if not self._is_away:
            self._is_away = True
            self._say(sentence)

    def back(self) -> None:
        """A live stream goes on."""
        self._is_away = False

    async def submit(self, fields: Mapping[str, str], *, key: str = "", path: str = JOBS) -> str:
        """Submit a sealed job; returns its id. Repeats the request while it is not known whether it was accepted.

        The idempotency key lets the API recognise a repeated request, so that the job runs once. Without `key` each
        call has a key of its own. Raises ConfigError for a key that cannot be one.
        """
        if key and not _KEY.fullmatch(key):
            raise ConfigError("The key is not 1 to 255 printable ASCII characters.")
        headers = {"Idempotency-Key": key or secrets.token_hex(16)}
        pauses, doubtful = iter(PAUSES), False
        while True:
            try:
                return await self._submit(path, fields, headers)
            except ApiError as error:
                if not (doubtful or error.doubtful):
                    raise
                again = error.doubtful or isinstance(error, ApiUnreachableError)
                pause = next(pauses, None) if again else None
                if pause is None:
                    raise in_doubt(error) from None
                if not doubtful:
                    self._say(f"{error.sentence.rstrip('.')}. The request is repeated.")
                doubtful = True
            await asyncio.sleep(pause)

    async def _submit(self, path: str, fields: Mapping[str, str], headers: Mapping[str, str]) -> str:
        job_id = str(body_of(await self._request("POST", path, json=fields, headers=headers)).get("_id"))
        if not is_job_id(job_id):
            raise UnexpectedAnswerError("Stint's answer to the submission names no job.", doubtful=True)
        return job_id

    async def get(self, path: str, **params: Any) -> Mapping[str, Any]:
        """An answer; parameters that are None are left out."""
        return body_of(await self._repeated("GET", path, params=_given(params)))

    async def repeat(self, method: str, path: str, **options: Any) -> Mapping[str, Any]:
        """The answer to a request that changes nothing more if it is made again."""
        return body_of(await self._repeated(method, path, **options))

    async def delete(self, path: str) -> None:
        """Delete something. An attempt whose answer was lost may have done it: what the next does not find is gone."""
        attempts = Attempts(self.patience)
        answer = await self._repeated("DELETE", path, attempts)
        if not (attempts.doubtful and answer.status_code == HTTPStatus.NOT_FOUND):
            body_of(answer)

    async def read(self, path: str, **params: Any) -> bytes:
        """An answer that is not JSON."""
        answer = await self._repeated("GET", path, params=_given(params))
        if not is_ours(answer):
            raise refusal(answer)
        return answer.content

    async def pages(self, path: str, **params: Any) -> AsyncIterator[Mapping[str, Any]]:
        """The pages of a list, each of which names the next one."""
        url = _address(path, params)
        while True:
            answer = await self._repeated("GET", url)
            yield body_of(answer)
            if "next" not in answer.links:
                return
            url = _next(url, answer.links["next"]["url"])

    async def events(self, path: str, *, after: str = "", **params: Any) -> AsyncGenerator[LiveEvent, None]:
        """A live stream, after the position `after`."""
        headers = {"Last-Event-ID": after} if after else {}
        try:
            async with self._http.stream("GET", _address(path, params), headers=headers) as answer:
                if not is_ours(answer):
                    await answer.aread()
                    raise refusal(answer)
                async for event in parse_events(lines_of(answer.aiter_bytes())):
                    yield event
        except httpx.HTTPError as error:
            raise unreachable(self._http, error) from None

    async def _repeated(
        self, method: str, path: httpx.URL | str, attempts: Attempts | None = None, **options: Any
    ) -> httpx.Response:
        attempts = attempts or Attempts(self.patience)
        while True:
            try:
                answer = await self._request(method, path, **options)
            except ApiUnreachableError as error:
                await attempts.next(error)
                continue
            if answer.is_success or not (refused := refusal(answer)).temporary:
                return answer
            await attempts.next(refused)

    async def _request(self, method: str, path: httpx.URL | str, **options: Any) -> httpx.Response:
        try:
            with _of_text():
                return await self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise unreachable(self._http, error) from None


def _address(path: str, params: Mapping[str, Any]) -> httpx.URL:
    with _of_text():
        return httpx.URL(path, params=_given(params) or None)


def _next(page: httpx.URL, link: str) -> httpx.URL:
    """The address of the next page. It is the same server's, as it gets the token. Raises UnexpectedAnswerError."""
    try:
        url = page.join(link)
    except httpx.InvalidURL:
        url = page
    if url == page or url.is_absolute_url:
        raise UnexpectedAnswerError("Stint's answer names no next page of its own.")
    return url


@contextmanager
def _of_text() -> Iterator[None]:
    """Around what makes a request. Raises ConfigError for a text from arguments or JSON that it cannot have."""
    try:
        yield
    except httpx.InvalidURL:
        raise ConfigError("A text that was given is too long for a request's address.") from None
    except UnicodeEncodeError:
        raise ConfigError("A text that was given is not valid Unicode.") from None


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}

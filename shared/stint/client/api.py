"""A client of Stint's REST API."""

import asyncio
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import msgspec

from stint.client.options import Endpoints
from stint.core.errors import ConfigError, StintError

TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)
"""Seconds. The API sends a ping on a live stream every 10 s, so a stream that is silent for a minute is dead."""


PAUSES: Final = (0.2, 0.4, 0.8, 1.6, 3.2)
"""Seconds between attempts if it is not known whether a submission was accepted; long enough for an API to restart."""

_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)

_NO_PROXY: Final = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}
"""A proxy from the environment cannot reach this machine's own loopback."""


class ApiError(StintError):
    """Stint's API is not reachable, or refused the request.

    Attributes:
        doubtful: it is not known whether the request was carried out.
        temporary: the same request may succeed later. Ask this only for requests that are safe to repeat.
    """

    temporary = True

    def __init__(self, sentence: str, *, doubtful: bool = False) -> None:
        super().__init__(sentence)
        self.doubtful = doubtful


class ApiUnreachableError(ApiError):
    """Stint's API is not reachable."""


class ApiRefusedError(ApiError):
    """Stint's API refused the request. `code` is the HTTP status."""

    def __init__(self, sentence: str, code: int, *, doubtful: bool = False) -> None:
        super().__init__(sentence, doubtful=doubtful)
        self.code = code
        self.temporary = code >= httpx.codes.INTERNAL_SERVER_ERROR or code == httpx.codes.TOO_MANY_REQUESTS


class LiveEvent(msgspec.Struct, frozen=True):
    """An event of a job's live stream. With `position` the stream can be resumed after it."""

    name: str
    data: Mapping[str, Any]
    position: str


class Api:
    """The routes that the command line needs."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def submit(self, fields: Mapping[str, str]) -> str:
        """Submit a sealed job; returns its id. Repeats the request while it is not known whether it was accepted.

        An idempotency key lets the API recognise a repeated request, so that the job runs once.

        Raises:
            ApiUnreachableError: every attempt failed to connect, or its connection broke.
            ApiRefusedError: the API answered with an error.
        """
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        doubtful = False
        for pause in PAUSES:
            try:
                return await self._submit(fields, headers)
            except ApiUnreachableError as error:
                doubtful = doubtful or error.doubtful
                if not doubtful:
                    raise
            except ApiRefusedError as error:
                if not error.doubtful:
                    raise _after_doubt(error) if doubtful else error from None
                doubtful = True
            await asyncio.sleep(pause)
        return await self._submit(fields, headers)

    async def _submit(self, fields: Mapping[str, str], headers: Mapping[str, str]) -> str:
        return str((await self._call("POST", "/v1/api/job", json=fields, headers=headers))["_id"])

    async def get(self, job_id: str) -> Mapping[str, Any]:
        """The job, with its output so far."""
        return await self._call("GET", f"/v1/api/job/{job_id}")

    async def kill(self, job_id: str) -> None:
        """Request a kill."""
        await self._call("POST", f"/v1/api/job/kill/{job_id}")

    async def release(self, job_id: str) -> str:
        """Give up the lost runner of a held job; returns the job's previous status."""
        return str((await self._call("POST", f"/v1/api/job/{job_id}/release"))["status"])

    async def pages(self, path: str, params: Mapping[str, str]) -> AsyncIterator[Mapping[str, Any]]:
        """The pages of a list, from the first to the last."""
        url: str | None = str(httpx.URL(path, params=params))
        while url:
            answer = await self._answer("GET", url)
            yield self._body(answer)
            following = answer.links.get("next")
            url = f"{path}{following['url']}" if following else None

    async def events(self, job_id: str, *, after: str = "") -> AsyncIterator[LiveEvent]:
        """The job's live stream, after the position `after`. A complete stream ends with an `end` event.

        Raises:
            ApiUnreachableError: no connection, or it broke.
            ApiRefusedError: the API answered with an error.
        """
        headers = {"Last-Event-ID": after} if after else {}
        try:
            async with self._http.stream("GET", f"/v1/api/job/{job_id}/events", headers=headers) as answer:
                if answer.is_error:
                    await answer.aread()
                    raise _refused(answer)
                async for event in parse_events(answer.aiter_lines()):
                    yield event
        except httpx.HTTPError as error:
            raise _unreachable(self._http, error) from None

    async def _call(self, method: str, path: str, **options: Any) -> Mapping[str, Any]:
        return self._body(await self._answer(method, path, **options))

    async def _answer(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return await self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise _unreachable(self._http, error) from None

    @staticmethod
    def _body(answer: httpx.Response) -> Mapping[str, Any]:
        body = _parse(answer.text)
        if not answer.is_success or body is None:
            raise _refused(answer)
        return body


@asynccontextmanager
async def connect(endpoints: Endpoints) -> AsyncIterator[Api]:
    """A client of the API. It verifies certificates, and follows no redirects, which would disclose the token.

    Raises:
        ConfigError: the address, the token or the CA bundle is wrong.
    """
    if any(not "!" <= char <= "~" for char in endpoints.token):
        raise ConfigError("STINT_TOKEN or VAULT_TOKEN: a token contains no white space and no special characters.")
    try:
        verify = ssl.create_default_context(cafile=endpoints.cacert) if endpoints.cacert else True
        http = httpx.AsyncClient(
            base_url=endpoints.url,
            verify=verify,
            headers={"X-Auth-Token": endpoints.token},
            timeout=TIMEOUT,
            mounts=_NO_PROXY,
        )
    except (OSError, ssl.SSLError):
        raise ConfigError(f"STINT_CACERT: {endpoints.cacert} is not a readable CA bundle.") from None
    except (httpx.InvalidURL, ValueError):
        raise ConfigError("STINT_URL: not an address.") from None
    if http.base_url.scheme not in {"http", "https"}:
        raise ConfigError("STINT_URL: not an http or https address.")
    async with http:
        yield Api(http)


async def parse_events(lines: AsyncIterator[str]) -> AsyncIterator[LiveEvent]:
    """Parse lines into Server-Sent Events. Comments, and events whose data is not a JSON object, are skipped."""
    fields: dict[str, str] = {}
    async for line in lines:
        if not line:
            data = _parse(fields.get("data", ""))
            if data is not None:
                yield LiveEvent(fields.get("event", "message"), data, fields.get("id", ""))
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")


def _parse(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _refused(answer: httpx.Response) -> ApiRefusedError:
    body = _parse(answer.text) or {}
    error = body.get("error") or f"{answer.request.url.host} does not answer as Stint does"
    job = f" (job {body['_id']})" if "_id" in body else ""
    doubtful = "_id" in body and answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    return ApiRefusedError(f"Stint refused ({answer.status_code}): {error}{job}", answer.status_code, doubtful=doubtful)


def _after_doubt(error: ApiRefusedError) -> ApiRefusedError:
    """Explain a refusal that an earlier attempt, whose answer was lost, may have caused by spending the cubbyhole."""
    return ApiRefusedError(f"{error.sentence}\nAn earlier attempt had no answer and may be the cause.", error.code)


def _unreachable(http: httpx.AsyncClient, error: httpx.HTTPError) -> ApiUnreachableError:
    where = http.base_url.copy_with(userinfo=b"", query=None, fragment=None)
    return ApiUnreachableError(
        f"Stint at {where} is not reachable ({type(error).__name__}: {error}).",
        doubtful=not isinstance(error, _NOT_SENT),
    )

"""The HTTP client with which the API is asked: whom it trusts, and whom it shows the token."""

import ssl
from typing import Final
from urllib.request import getproxies

import httpx

from stint.client.options import Endpoints
from stint.core.errors import ConfigError

TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)
"""Seconds. The API sends a ping on a live stream every 10 s, so a stream that is silent for a minute is dead."""
_HIGHEST_PORT: Final = 65535
_NO_PROXY: Final = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}
"""A proxy from the environment cannot reach this machine's own loopback."""


def http_client(where: Endpoints) -> httpx.AsyncClient:
    """What `Api.connect` sends its requests with. Raises what it raises."""
    if any(not "!" <= char <= "~" for char in where.token):
        raise ConfigError("STINT_TOKEN or VAULT_TOKEN: a token contains no white space and no special characters.")
    try:
        http = httpx.AsyncClient(
            base_url=where.url,
            verify=_verify(where),
            headers={"X-Auth-Token": where.token},
            timeout=TIMEOUT,
            mounts=_NO_PROXY,
        )
    except (OSError, ssl.SSLError):
        raise ConfigError(f"STINT_CACERT: {where.cacert} is not a readable CA bundle.") from None
    except (httpx.InvalidURL, ValueError):
        raise ConfigError("STINT_URL: not an address.") from None
    if http.base_url.scheme not in {"http", "https"} or (http.base_url.port or 0) > _HIGHEST_PORT:
        raise ConfigError("STINT_URL: not an http or https address.")
    return http


def _verify(where: Endpoints) -> ssl.SSLContext | bool:
    """How certificates are verified. Without TLS no CA is loaded, which would take 25 ms."""
    if where.cacert:
        return ssl.create_default_context(cafile=where.cacert)
    tls = any(url.lower().startswith("https:") for url in (where.url, *getproxies().values()))
    return True if tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

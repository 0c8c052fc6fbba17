"""Asks the service in this container whether it is ready: exits 0 if so, else 1 with what it says is missing."""

import os
import ssl
import sys
import urllib.error
import urllib.request


def url() -> str:
    """Of the health port, else of the API."""
    if port := os.environ.get("STINT_HEALTH_PORT"):
        return f"http://127.0.0.1:{port}/readyz"
    scheme = "https" if os.environ.get("STINT_TLS_CERT") else "http"
    return f"{scheme}://127.0.0.1:{os.environ.get('STINT_PORT', '3232')}/readyz"


def main() -> int:
    """The exit code."""
    # One's own neighbour on loopback: its certificate names the host that clients see, and no proxy leads there.
    context = ssl._create_unverified_context()  # noqa: S323, SLF001 - see above
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(url(), timeout=5):
            return 0
    except urllib.error.HTTPError as error:
        print(error.read().decode().strip())
    except OSError as error:
        print(error)
    return 1


if __name__ == "__main__":
    sys.exit(main())

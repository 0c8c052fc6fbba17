"""Answers that are compressed if the client accepts that."""

import gzip
from typing import Final

from starlette.responses import Response, StreamingResponse

WORTH: Final = 1000
"""Bytes from which it is worth it: less fits into one packet."""
MOST: Final = 256 * 1024
"""Bytes that take some milliseconds, during which nobody else is answered."""
_LEVEL: Final = 6


def zipped(answer: Response, encodings: str) -> Response:
    """The answer, compressed if it is sent as a whole, and `Accept-Encoding` says that the client takes gzip."""
    if isinstance(answer, StreamingResponse) or "gzip" not in encodings:
        return answer
    if not WORTH <= len(answer.body) <= MOST:
        return answer
    answer.body = gzip.compress(bytes(answer.body), _LEVEL, mtime=0)
    answer.headers["Content-Encoding"] = "gzip"
    answer.headers["Vary"] = "Accept-Encoding"
    answer.headers["Content-Length"] = str(len(answer.body))
    return answer

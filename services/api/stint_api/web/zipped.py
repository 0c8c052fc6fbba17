"""Answers that are compressed if the client accepts that."""

import gzip
import re
from typing import Final

from starlette.responses import Response, StreamingResponse

WORTH: Final = 1000
"""Bytes from which it is worth it: less fits into one packet."""
MOST: Final = 256 * 1024
"""Bytes that take some milliseconds, during which nobody else is answered."""
_LEVEL: Final = 3
"""Takes half the time of level 6, for a tenth more bytes."""
_REFUSED: Final = re.compile(r"\s*q\s*=\s*0(\.0*)?\s*")


def takes_gzip(encodings: str) -> bool:
    """Whether a client with this `Accept-Encoding` takes gzip: with `gzip;q=0` it does not."""
    weights = {
        name.strip(): weight for name, _, weight in (part.partition(";") for part in encodings.lower().split(","))
    }
    return "gzip" in weights and not _REFUSED.fullmatch(weights["gzip"])


def zipped(answer: Response, encodings: str) -> Response:
    """The answer, compressed if it is sent as a whole, and `Accept-Encoding` says that the client takes gzip."""
    if isinstance(answer, StreamingResponse) or not takes_gzip(encodings):
        return answer
    if not WORTH <= len(answer.body) <= MOST:
        return answer
    answer.body = gzip.compress(bytes(answer.body), _LEVEL, mtime=0)
    answer.headers["Content-Encoding"] = "gzip"
    answer.headers["Vary"] = "Accept-Encoding"
    answer.headers["Content-Length"] = str(len(answer.body))
    return answer

"""Code in documents."""

import re
from typing import Final

FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(text: str, *languages: str) -> list[str]:
    """The blocks in these languages."""
    return [body for language, body in FENCE.findall(text) if language in languages]

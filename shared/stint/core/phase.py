"""What is done for a running job at this moment. It is shown, and nothing depends on it."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Phase = Literal["opening", "pulling", "creating", "running"]
"""In their order. An image is pulled only if it is missing, or if the job asks for that."""


class JobPhase(msgspec.Struct, frozen=True, kw_only=True):
    """What a runner does for a job now. `progress`: from 0 to 1 while an image is pulled, as far as that is known."""

    phase: Phase
    progress: Annotated[float, Meta(ge=0, le=1)] | None = None

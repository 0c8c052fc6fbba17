"""What a policy on a queue's path allows: the same rule for whoever comes through the REST API or through NATS."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from stint.vault.policies import drain_path, pause_path, queue_path, release_path


@dataclass(frozen=True, slots=True)
class Action:
    """What a caller may do in a queue if it has the capability on the queue's path.

    Attributes:
        words: what it is, as part of a sentence, with what it is done to.
    """

    words: str
    capability: str
    path: Callable[[str], str] = queue_path

    def allowed_by(self, capabilities: Collection[str]) -> bool:
        """Whether these capabilities on its path allow it."""
        return self.capability in capabilities or "root" in capabilities


SUBMIT: Final = Action("submit jobs to this queue", "create")
READ: Final = Action("read jobs of this queue", "read")
KILL: Final = Action("kill jobs of this queue", "update")
DELETE: Final = Action("delete jobs of this queue", "delete")
RELEASE: Final = Action("release held jobs of this queue", "update", release_path)
PAUSE: Final = Action("pause this queue", "update", pause_path)
RESUME: Final = Action("resume this queue", "update", pause_path)
DRAIN: Final = Action("drain this runner", "update", drain_path)


def refusal_text(action: Action, name: str) -> str:
    """What is missing, for whoever can grant it."""
    path = action.path(name)
    return f'The token may not {action.words}: it lacks the capability "{action.capability}" on "{path}".'

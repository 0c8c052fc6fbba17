"""What a policy on a queue's path allows: the same rule for whoever comes through the REST API or through NATS."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from stint.vault.policies import DRAINS, PAUSES, QUEUES, RELEASES, queue_path


@dataclass(frozen=True, slots=True)
class Action:
    """What a caller may do in a queue if it has the capability on the queue's path."""

    words: str  # what it is, as part of a sentence, with what it is done to
    capability: str
    folder: str = QUEUES  # of the paths that count for it

    def path(self, name: str) -> str:
        """The path of what it is done to."""
        return queue_path(name, self.folder)

    def allowed_by(self, capabilities: Collection[str]) -> bool:
        """Whether these capabilities on its path allow it."""
        return self.capability in capabilities or "root" in capabilities


SUBMIT: Final = Action("submit jobs to this queue", "create")
READ: Final = Action("read jobs of this queue", "read")
KILL: Final = Action("kill jobs of this queue", "update")
DELETE: Final = Action("delete jobs of this queue", "delete")
RELEASE: Final = Action("release held jobs of this queue", "update", RELEASES)
PAUSE: Final = Action("pause this queue", "update", PAUSES)
RESUME: Final = Action("resume this queue", "update", PAUSES)
DRAIN: Final = Action("drain this runner", "update", DRAINS)


def refusal_text(action: Action, name: str) -> str:
    """What is missing, for whoever can grant it."""
    path = action.path(name)
    return f'The token may not {action.words}: it lacks the capability "{action.capability}" on "{path}".'

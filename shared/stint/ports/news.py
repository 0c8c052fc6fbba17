"""How the ports tell that there may be something new."""

import asyncio


class News(asyncio.Event):
    """Set whenever there may be something new. Clear it first, or take the news, and then read the stream.

    Attributes:
        sequence: of the newest message that was announced since the last `take`, 0 if none was. Anybody may announce
            one, so there may be no such message.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sequence = 0

    def announce(self, sequence: int) -> None:
        """There may be a message with this sequence."""
        self.sequence = max(self.sequence, sequence)
        self.set()

    def take(self) -> int:
        """Clear the event; returns `sequence`, and forgets it."""
        sequence, self.sequence = self.sequence, 0
        self.clear()
        return sequence

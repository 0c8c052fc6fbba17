"""All errors of Stint: one sentence per class, data as attributes. Adapters map their drivers' errors to these."""


class StintError(Exception):
    """Something in Stint failed."""

    def __str__(self) -> str:
        return super().__str__() or (type(self).__doc__ or "").strip()

    @property
    def sentence(self) -> str:
        """The message for people: the given text, otherwise the class's own sentence. It never contains a secret."""
        return str(self)


class ConfigError(StintError):
    """A setting is missing or wrong."""


class InvalidQueueNameError(StintError):
    """A queue name is at most 1000 bytes of UTF-8 without control characters."""


class InvalidTokenError(StintError):
    """A subject's queue token is not the canonical encoding of a queue name."""


class InvalidJobIdError(StintError):
    """Invalid job ID (not ObjectIdHex)."""


class UndecodableError(StintError):
    """The bytes do not have the expected format."""


class PayloadMissingError(UndecodableError):
    """A payload is not there, or not whole."""


class IllegalCommandError(StintError):
    """The job's state does not allow this command."""


class BrokerUnavailableError(StintError):
    """NATS is not reachable or does not answer."""


class NoRoomError(BrokerUnavailableError):
    """NATS has no room left."""


class InProgressError(BrokerUnavailableError):
    """Another write to the same place is being replicated: it may be stored, or get lost."""


class ConsumerGoneError(BrokerUnavailableError):
    """The consumer that made this delivery is gone: pull its queue again."""


class BrokerClosedError(BrokerUnavailableError):
    """The connection to NATS was closed for good."""


class OtherLayoutError(StintError):
    """The streams have the layout of another version of Stint."""


class BrokerRefusedError(StintError):
    """NATS refused the request; a repeat will be refused too."""


class StreamMissingError(BrokerRefusedError):
    """A stream or bucket is missing in NATS: somebody has deleted it."""


class TooLargeError(StintError):
    """The message is larger than NATS accepts."""


class LogGapError(StintError):
    """Another writer appended to this job's output."""


class LeaseLostError(StintError):
    """The lease on this delivery could not be renewed in time."""


class UnfitError(StintError):
    """This runner cannot run jobs now, though others may."""


class VaultError(StintError):
    """Vault answered with an error. `code` is the HTTP status, 0 if Vault did not answer."""

    method: str = ""
    url: str = ""
    code: int = 0
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class VaultUnavailableError(VaultError):
    """Vault is not reachable, sealed, or answered with a server error."""


class VaultDeniedError(VaultError):
    """Vault denied permission."""


class VaultRefusedError(VaultError):
    """Vault refused the request as invalid."""


class VaultNotFoundError(VaultError):
    """Vault has nothing at this path."""


class EngineError(StintError):
    """The container engine refused a request."""


class EngineUnavailableError(EngineError):
    """The container engine is not reachable, or answered with a server error."""


class EngineUnansweredError(EngineUnavailableError):
    """The container engine did not answer, and may have carried out the request."""


class LogRotatedError(EngineError):
    """The container wrote so much that its engine's log may have lost part of it."""


class ImageError(EngineError):
    """The image is not available."""


class JobFailedError(StintError):
    """The job cannot run because of an error in its submission. It ends as `failed` or `notauthorised`.

    `reason` is one word, as in `stint.core.events.Ended.reason`.
    """

    def __init__(self, sentence: str, *, reason: str, status: str = "failed") -> None:
        super().__init__(sentence)
        self.reason = reason
        self.status = status

"""How the client library fails. Errors of Vault are those of `stint.core.errors`."""

from http import HTTPStatus

from stint.core.errors import StintError


class ApiError(StintError):
    """Stint's API is not reachable, or refused the request.

    Attributes:
        doubtful: it is not known whether the request was carried out.
        temporary: the same request may succeed later. Ask this only for requests that are safe to repeat.
    """

    temporary = True

    def __init__(self, sentence: str, *, doubtful: bool = False) -> None:
        super().__init__(sentence)
        self.doubtful = doubtful


class ApiUnreachableError(ApiError):
    """Stint's API is not reachable."""


class ApiRefusedError(ApiError):
    """Stint's API refused the request. `job_id` is the job that the answer names, "" if it names none."""

    def __init__(self, sentence: str, code: int, *, doubtful: bool = False, job_id: str = "") -> None:
        super().__init__(sentence, doubtful=doubtful)
        self.code = code
        self.job_id = job_id
        self.temporary = code >= HTTPStatus.INTERNAL_SERVER_ERROR or code == HTTPStatus.TOO_MANY_REQUESTS


class UnexpectedAnswerError(ApiError):
    """Stint's answer does not have the expected form."""

    temporary = False


class OutputDiffersError(StintError):
    """The output differs from what the job's runner recorded: do not rely on it. The job has ended."""

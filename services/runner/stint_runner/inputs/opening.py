"""What the runner asks Vault about a job: whether it is genuine, what it says, and its secrets."""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from stint.core.errors import (
    JobFailedError,
    StintError,
    UndecodableError,
    UnfitError,
    VaultDeniedError,
    VaultError,
    VaultRefusedError,
    VaultUnavailableError,
)
from stint.core.job import Job
from stint.core.view import parse_time
from stint.vault import AppRoleSession, SecretData, Ticket, Vault, open_ticket
from stint.vault.erasure import PayloadKeys, decrypted, key_of
from stint.vault.policies import JOB_TOKEN_USES
from stint_runner.inputs.payload import NOT_DECRYPTED, SMALL, Opened, bad_payload, open_payload
from stint_runner.inputs.secretfile import SecretRef, pick, version_of
from stint_runner.retry import ask_vault, retry, spend
from stint_runner.together import side_by_side

READS: Final = 16  # paths of a job that are read at the same time: more than its token has uses by default
_SPENT: Final = (
    " The job's secrets are at {} paths, and each path costs a use of its token: token_num_uses of its AppRole may be "
    "lower."
)
_ALERT: Final = "POSSIBLE SECURITY/INTERCEPTION ALERT!!!"
NO_TICKET: Final = "The ticket cannot be opened: it is no ticket, or one of another job."
CHANGED: Final = f"{_ALERT}: The payload is not the one that was submitted."
DESTROYED: Final = (
    "The payload's key is not in Vault: the job was deleted or over before, or Vault was restored from a backup."
)


class RejectedError(StintError):
    """What was submitted could never run."""


@dataclass(frozen=True, kw_only=True)
class Opener:
    """Opens jobs with the runner's own login, and acts for them with theirs."""

    vault: Vault
    session: AppRoleSession
    role: str  # the jobs' AppRole and transit key
    role_id: str
    compat: bool = False  # fill what a payload leaves unset from the job fields that stood beside it in the request
    # The clock that says why a wrapping token is unusable: expired, or else perhaps spent by a stranger.
    now: Callable[[], datetime]

    async def ticket(self, sealed: str, job: Job) -> Ticket:
        """Open the ticket of a submission. Waits for ever while Vault is unavailable: nothing has happened yet.

        Raises RejectedError if Vault says that it is not one of this queue and job. Other refusals are this runner's
        fault: UnfitError.
        """

        async def opened(own: str) -> Ticket:
            return await open_ticket(self.vault, own, sealed, queue_token=job.token, job_id=job.job_id)

        try:
            return await retry(lambda: self.session.call(opened))
        except UndecodableError:
            raise RejectedError(NO_TICKET) from None
        except VaultError as error:
            if isinstance(error, VaultRefusedError) and "/decrypt/" in error.url:
                raise RejectedError(NO_TICKET) from None
            raise UnfitError(f"This runner may not open tickets: {error.sentence}") from None

    async def check_wrapping(self, ticket: Ticket) -> None:
        """Look at the wrapping token without spending it. Waits for ever while Vault is unavailable.

        Raises:
            JobFailedError: `notauthorised`: spent, expired, or made elsewhere than at the role.
        """
        try:
            found = await retry(lambda: self.vault.wrap_info(ticket.wrap_secret_id))
        except VaultError as error:
            raise _not_authorised(self._why_unusable(ticket, error)) from None
        if found.creation_path != f"auth/approle/role/{self.role}/secret-id":
            raise _not_authorised(f"{_ALERT}: The wrapping token was not made by the role of these jobs.")

    def _why_unusable(self, ticket: Ticket, error: VaultError) -> str:
        if ticket.wrap_expires_at and parse_time(ticket.wrap_expires_at) <= self.now():
            return f"The wrapping token expired at {ticket.wrap_expires_at}, before the job's turn came."
        return (
            f"Request failed to unwrap the token to retrieve the SecretID - {_ALERT}: "
            f"THIS REQUEST MAY HAVE BEEN TAMPERED WITH, error: {error.sentence}"
        )

    async def log_in(self, ticket: Ticket) -> str:
        """Spend the wrapping token, and the secret id in it; returns the job's own Vault token.

        Raises:
            JobFailedError: `notauthorised`; `failed` where Vault did not say whether it had carried a call out.
        """
        with _refused(lambda error: _not_authorised(self._why_unusable(ticket, error))):
            secret_id = await spend(
                lambda: self.vault.unwrap_secret_id(ticket.wrap_secret_id),
                there=lambda: self.vault.wrap_info(ticket.wrap_secret_id),
            )
        failed = "Request failed AppRole authentication with vault"
        with _refused(lambda error: _not_authorised(f"{failed}: {error.sentence}")):
            login = await spend(lambda: self.vault.login(self.role_id, secret_id), there=self._vault_answers)
        return login.token

    async def _vault_answers(self) -> None:
        if not await self.vault.health():
            raise VaultUnavailableError

    async def sealed(self, stored: bytes) -> bytes:
        """A payload without the encryption by its own key, if it has one. Waits for ever while Vault is unavailable.

        Raises JobFailedError if the key was destroyed, or is another one; UnfitError if this runner may not read it.
        """
        if not (name := key_of(stored)):
            return stored
        try:
            key = await retry(lambda: PayloadKeys(self.session).load(name))
            if key is None:
                raise bad_payload(DESTROYED)
            return decrypted(stored, key) if len(stored) <= SMALL else await asyncio.to_thread(decrypted, stored, key)
        except UndecodableError:
            raise bad_payload(CHANGED) from None
        except VaultError as error:
            raise UnfitError(f"This runner may not read the keys of payloads: {error.sentence}") from None

    async def payload(self, sealed: bytes, ticket: Ticket, qname: str) -> Opened | None:
        """Decrypt and read a payload with the runner's own token; None if that may not decrypt it.

        On a second line the API seals the job fields that stood beside the payload. Waits for ever while Vault is
        unavailable: nothing has happened yet. Raises JobFailedError if it is not the one that the ticket was made for,
        cannot be opened, or is not as it should be.
        """
        if hashlib.sha256(sealed).hexdigest() != ticket.payload_sha256:
            raise bad_payload(CHANGED)

        async def decrypt(line: str) -> bytes:
            return await retry(lambda: self.session.call(lambda own: self.vault.decrypt(own, self.role, line)))

        try:
            return await open_payload(sealed, qname, decrypt, compat=self.compat)
        except VaultDeniedError:
            return None

    async def payload_for(self, job_token: str, sealed: bytes, qname: str) -> Opened:
        """Decrypt a payload with the job's own token, as existing GoStint set-ups allow; otherwise as `payload`.

        It was compared with its ticket there. Raises JobFailedError if that token may not decrypt it either,
        VaultUnavailableError if Vault did not answer for too long.
        """

        async def decrypt(line: str) -> bytes:
            return await ask_vault(lambda: self.vault.decrypt(job_token, self.role, line))

        try:
            return await open_payload(sealed, qname, decrypt, compat=self.compat)
        except VaultDeniedError as error:
            raise bad_payload(f"{NOT_DECRYPTED}: {error.sentence}") from None

    async def secrets(
        self, refs: Iterable[SecretRef], job_token: str, *, cont_on_warnings: bool
    ) -> tuple[Mapping[str, Any], Mapping[str, int | None]]:
        """The values of a job's references by variable, and the versions by `path.key`.

        Each path is read once, because the token's uses are counted; `READS` are read at the same time. Raises
        JobFailedError if one cannot be had.
        """
        wanted = list(refs)
        paths = list(dict.fromkeys(ref.path for ref in wanted))
        hint = _SPENT.format(len(paths)) if len(paths) > JOB_TOKEN_USES else ""
        found: dict[str, SecretData] = {}
        for start in range(0, len(paths), READS):
            some = paths[start : start + READS]
            reads = (self._read(path, job_token, hint, cont_on_warnings=cont_on_warnings) for path in some)
            found.update(zip(some, await side_by_side(*reads), strict=True))
        values = {ref.variable: pick(ref, found[ref.path].data) for ref in wanted}
        return values, {ref.place: version_of(found[ref.path].data) for ref in wanted}

    async def _read(self, path: str, job_token: str, hint: str, *, cont_on_warnings: bool) -> SecretData:
        failed = f"Failed to retrieve secret {path} from vault"
        with _refused(lambda error: _no_secret(f"{failed} err: {error.sentence}{hint}")):
            found = await ask_vault(lambda: self.vault.read(job_token, path))
        if found is None:
            raise _no_secret(f"{failed}: response is nil")
        if found.warnings and not cont_on_warnings:
            raise _no_secret(f"FailOnWarnings from vault path {path} lookups: {list(found.warnings)}")
        return found


@contextmanager
def _refused(explain: Callable[[VaultError], JobFailedError]) -> Iterator[None]:
    """Turn Vault's refusals into the job's end. A Vault that is unavailable refuses nothing."""
    try:
        yield
    except VaultUnavailableError:
        raise
    except VaultError as error:
        raise explain(error) from None


def _not_authorised(sentence: str) -> JobFailedError:
    return JobFailedError(sentence, reason="secrets", status="notauthorised")


def _no_secret(sentence: str) -> JobFailedError:
    return JobFailedError(sentence, reason="secrets")

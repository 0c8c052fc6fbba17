"""`stint receipt`, and how a receipt is verified."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from stint.cli.calling import call, exact
from stint.cli.completing import job_ids
from stint.cli.errors import reported
from stint.cli.settings import Profile, Url
from stint.cli.show.form import ChangeFormName, show_change
from stint.cli.show.terminal import printable
from stint.client.client import Client
from stint.client.receipts import PublicKeys, check_receipt
from stint.core.audit.receipt import MAX_BYTES, Asked, Receipt
from stint.core.codec import decode, encode
from stint.core.errors import ConfigError, UndecodableError

app = typer.Typer(add_completion=False)


@app.command(no_args_is_help=True)
def receipt(
    job: Annotated[str, typer.Argument(metavar="JOB_ID", help="A job that is over.", autocompletion=job_ids)] = "",
    public_key: Annotated[
        bool, typer.Option("--public-key", help="Print the public keys instead, for `stint verify`.")
    ] = False,
    url: Url = "",
    profile: Profile = "",
) -> None:
    """Print a signed receipt of what became of a job: who asked for it, what ran, when, and how it ended.

    Example: `stint receipt 65f0c2a19b3e4d5f6a7b8c9d >receipt.json`
    """
    with reported("stint"):
        if public_key == bool(job):
            raise ConfigError("Give either a job's id or --public-key.")
    work = _public_keys if public_key else lambda stint: exact(stint, job).receipt()
    typer.echo(call(work, url=url, profile=profile), nl=False)


async def _public_keys(stint: Client) -> bytes:
    return encode(await stint.receipt_keys()) + b"\n"


def verify_receipt(path: Path, public_key: Path | None, form: ChangeFormName) -> None:
    """Say what a receipt states if it is genuine. Otherwise say why not, and exit with 1."""
    with reported("stint", code=1):
        if public_key is None:
            raise ConfigError("Give --public-key, the file that `stint receipt --public-key` printed.")
        genuine = check_receipt(_read(path), _keys(public_key))
    text = "\n".join(map(printable, lines(genuine)))
    show_change(form, genuine.statement.job, text=text, fields=genuine.statement)


def _keys(path: Path) -> PublicKeys:
    try:
        return decode(_read(path), PublicKeys)
    except UndecodableError:
        raise ConfigError(f"{path} is not what `stint receipt --public-key` prints.") from None


def _read(path: Path) -> bytes:
    """A file, or as much of it as is too large for a receipt."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # a name with a zero byte
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', error)}.") from None


def lines(genuine: Receipt) -> Iterator[str]:
    """What a receipt states, for people."""
    stated, key = genuine.statement, genuine.key
    image, output = stated.image, stated.output
    reason = f" ({stated.reason})" if stated.reason else ""
    yield f"Genuine: the receipt of job {stated.job}, signed by version {key.version} of the key {key.name}."
    yield f"queue       {stated.queue!r}"
    yield f"asked for   by {_asked(stated.asked)} at {stated.submitted}"
    yield f"ran         {image.name or 'nothing'} {image.id} on {stated.runner or 'no runner'}"
    yield f"payload     {stated.payload_sha256 or 'not known'}"
    yield f"ended       {stated.status}{reason}, exit code {stated.return_code}, at {stated.ended}"
    yield f"output      {output.bytes} bytes in {output.chunks} chunks, digest {output.digest or 'none'}"
    if not output.complete:
        yield "The output is not known to be complete."


def _asked(asked: Asked) -> str:
    entity = f" (entity {asked.entity})" if asked.entity else ""
    proven = f", as the signature of {asked.nats_user or 'an API'} proves," if asked.proven else ""
    return f"{asked.who or asked.nats_user or 'somebody'}{entity}{proven}"

"""`stint receipt` and `stint verify`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer

from stint.cli.calling import asking, call, exact, job_ids
from stint.cli.errors import NOT_SO, reported
from stint.cli.settings import Profile, Url
from stint.cli.show.form import ChangeForm, ChangeFormName, show_change
from stint.cli.show.terminal import printable
from stint.client import Client, JobHandle, OutputDiffersError, PublicKeys, check_receipt
from stint.core.audit.receipt import MAX_BYTES, Asked, Receipt
from stint.core.codec import decode, encode
from stint.core.errors import ConfigError, UndecodableError
from stint.core.names.ids import is_job_id

app = typer.Typer(add_completion=False)

_TRUNCATED: Final = "The job wrote more: what was beyond the limit was dropped."


@app.command(no_args_is_help=True)
@asking
async def receipt(
    stint: Client,
    job: Annotated[str, typer.Argument(metavar="JOB_ID", help="A job that is over.", autocompletion=job_ids)] = "",
    public_key: Annotated[
        bool, typer.Option("--public-key", help="Print the public keys instead, for `stint verify`.")
    ] = False,
) -> None:
    """Print a signed receipt of what became of a job: who asked for it, what ran, when, and how it ended.

    Example: `stint receipt 65f0c2a19b3e4d5f6a7b8c9d >receipt.json`
    """
    if public_key == bool(job):
        raise ConfigError("Give either a job's id or --public-key.")
    printed = encode(await stint.receipt_keys()) + b"\n" if public_key else await exact(stint, job).receipt()
    typer.echo(printed, nl=False)


@app.command(no_args_is_help=True)
def verify(
    target: Annotated[
        str, typer.Argument(metavar="JOB_ID|FILE", help="A job, or a receipt of one.", autocompletion=job_ids)
    ],
    public_key: Annotated[
        Path | None,
        typer.Option(envvar="STINT_PUBLIC_KEY", help="For a receipt: what `stint receipt --public-key` printed."),
    ] = None,
    form: ChangeForm = "text",
    url: Url = "",
    profile: Profile = "",
) -> None:
    """Prove that a job's output is what its runner recorded, or that a receipt is genuine.

    Of a job all of its output is read, once it has ended. A receipt is checked without any server; write ./NAME if its
    file is named like a job's id.

    Exit codes: 1 it is not, or nobody can tell, because the runner did not record that the output is complete, or the
    receipt was signed by another key.

    For example:

        stint verify 65f0c2a19b3e4d5f6a7b8c9d

        stint receipt --public-key >stint.keys; stint verify receipt.json --public-key stint.keys
    """
    if not is_job_id(target):
        verify_receipt(Path(target), public_key, form)
        return
    proven, said = call(lambda stint: _verify(stint.job(target)), url=url, profile=profile)
    show_change(form, target, text=f"{target}: {said}", fields={"_id": target, "proven": proven, "said": said})
    raise typer.Exit(0 if proven else NOT_SO)


async def _verify(job: JobHandle) -> tuple[bool, str]:
    try:
        result = await job.wait()
    except OutputDiffersError as error:
        return False, error.sentence
    if not result.output_complete:
        return False, f"{result.output_bytes} bytes; its runner did not record that they are all."
    if result.output_truncated:
        return True, f"{result.output_bytes} bytes in order, as {result.runner} recorded. {_TRUNCATED}"
    return True, f"{result.output_bytes} bytes, all of them and in order, as {result.runner} recorded."


def verify_receipt(path: Path, public_key: Path | None, form: ChangeFormName) -> None:
    """Say what a receipt states if it is genuine. Otherwise say why not, and exit with 1."""
    with reported("stint", code=1):
        receipt = _read(path)
        if public_key is None:
            raise ConfigError("Give --public-key, the file that `stint receipt --public-key` printed.")
        genuine = check_receipt(receipt, _keys(public_key))
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
    if output.truncated:
        yield _TRUNCATED


def _asked(asked: Asked) -> str:
    entity = f" (entity {asked.entity})" if asked.entity else ""
    proven = f", as the signature of {asked.nats_user or 'an API'} proves," if asked.proven else ""
    return f"{asked.who or asked.nats_user or 'somebody'}{entity}{proven}"

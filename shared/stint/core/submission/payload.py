"""What a job is: the JSON object that is sealed as its payload."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

import msgspec

from stint.core.errors import UndecodableError
from stint.core.submission.jsontext import read_object

T = TypeVar("T")

MAX_CONTENT: Final = 16 * 1024 * 1024
"""Bytes of compressed content. As base64 in a sealed payload it must still fit into one request to Vault (32 MiB)."""


def documented(description: str, **schema: Any) -> msgspec.Meta:
    """Describe a field for the API's document. `schema` is added to its JSON schema, and not checked on reading."""
    return msgspec.Meta(description=description, extra_json_schema=schema or None)


class JobPayload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The fields of a job, as the API reference names them. Unset fields are "", empty or false."""

    qname: Annotated[
        str, documented("The queue, compared in lower case: up to 1000 bytes of UTF-8 without control characters.")
    ] = ""
    container_image: Annotated[str, documented("The image, in the form that `docker pull` accepts.")] = ""
    image_pull_policy: Annotated[
        str, documented("When the image is pulled; `IfNotPresent` if not given.", enum=["", "IfNotPresent", "Always"])
    ] = ""
    content: Annotated[
        str, documented("`targz,` and the base64 of a gzipped tar, unpacked over the container's `/` before the start.")
    ] = ""
    entrypoint: Annotated[tuple[str, ...], documented("Overrides the image's entrypoint.")] = ()
    run: Annotated[tuple[str, ...], documented("The command; overrides the image's command.")] = ()
    working_directory: Annotated[str, documented("Overrides the image's working directory.")] = ""
    env_vars: Annotated[tuple[str, ...], documented("Environment variables, each as `NAME=value`.")] = ()
    secret_refs: Annotated[
        tuple[str, ...],
        documented(
            "Secrets to inject, each as `variable@path.key`; paths of KV version 2 include `data/`. Of ASCII letters, "
            "digits and `_`; path and key may have `-`, the path `/`, too."
        ),
    ] = ()
    secret_file_type: Annotated[
        str,
        documented(
            "Format of the secrets file: `/secrets.yml` (default) or `/secrets.json`.", enum=["", "yaml", "json"]
        ),
    ] = ""
    cont_on_warnings: Annotated[bool, documented("Continue if Vault warns about a secret's path.")] = False
    tty: Annotated[bool, documented("Give the command a terminal; its output is then one stream.")] = False
    expose_vault_token: Annotated[bool, documented("Put the job's own Vault token into its container.")] = False
    timeout: Annotated[
        float,
        documented(
            "Seconds that the container may run; 0 for the server's default, as with the limits below.", minimum=0
        ),
    ] = 0
    mask_secrets: Annotated[bool, documented("Mask the values of the job's secrets in its output.")] = False
    on_lost: Annotated[
        str,
        documented(
            "What the queue does if the job's runner is lost. Also read from the request if the payload is sealed.",
            enum=["", "advance", "hold"],
        ),
    ] = ""
    cpus: Annotated[float, documented("Number of processors, such as 0.5.", minimum=0)] = 0
    memory: Annotated[int | str, documented("Bytes, or a number with `k`, `m`, `g` or `t` (powers of 1024).")] = 0
    pids: Annotated[int, documented("Processes and threads at a time.", minimum=0)] = 0
    network: Annotated[str, documented("The container's network.", enum=["", "bridge", "none"])] = ""
    read_only: Annotated[bool, documented("Make the container's root file system read-only.")] = False


_FIELDS: Final = frozenset(JobPayload.__struct_fields__)
_NOT_MERGED: Final = frozenset({"qname", "secret_refs"})


def merge(payload: JobPayload, request: JobPayload) -> JobPayload:
    """The payload, with its unset fields taken from the request that carried it.

    A list is taken as a whole, from the first source in which it is not empty; a flag is set if either sets it. Two
    fields are not merged: the queue, which both must name, and the secret references, which all sources add to.
    """
    names = (name for name in JobPayload.__struct_fields__ if name not in _NOT_MERGED)
    merged = {name: getattr(payload, name) or getattr(request, name) for name in names}
    return msgspec.structs.replace(payload, **merged)


def parse_payload(data: bytes) -> JobPayload:
    """Parse a decrypted payload. Raises UndecodableError, which contains no part of the payload."""
    return convert(read_object(data, _FIELDS), JobPayload)


def convert(fields: Mapping[str, Any], shape: type[T]) -> T:
    """Convert fields; those that the shape lacks are ignored. Raises UndecodableError, which names no value."""
    try:
        return msgspec.convert(fields, shape)
    except msgspec.ValidationError as error:
        raise UndecodableError(str(error)) from None

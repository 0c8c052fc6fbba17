"""What a job is: the JSON object that is sealed as its payload."""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from stint.core.errors import UndecodableError
from stint.core.jsontext import read_object

T = TypeVar("T")

MAX_CONTENT: Final = 16 * 1024 * 1024
"""Bytes of compressed content. As base64 in a sealed payload it must still fit into one request to Vault (32 MiB)."""


class JobPayload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The fields of a job, as the API reference names them. Unset fields are "", empty or false.

    Attributes:
        qname: the queue, compared in lower case.
        container_image: the image, in the form that `docker pull` accepts.
        image_pull_policy: `IfNotPresent` (default) or `Always`.
        content: `targz,` and the standard base64 of a gzipped tar, unpacked over `/` before the start.
        entrypoint: overrides the image's entrypoint.
        run: the command; overrides the image's command.
        working_directory: overrides the image's working directory.
        env_vars: `NAME=value`.
        secret_refs: `variable@path.key`.
        secret_file_type: `yaml` (default) or `json`.
        cont_on_warnings: continue if Vault warns about a secret's path.
        tty: give the command a terminal; its output is then one stream.
        expose_vault_token: put the job's Vault token into its container.
        timeout: seconds that the container may run, 0 for the server's default.
        mask_secrets: replace the values of its secrets in its output.
        on_lost: what its queue does if its runner is lost: `advance` or `hold`.
        cpus: processors' worth of time, such as 0.5; 0 for the server's default. So for `memory` and `pids`.
        memory: bytes, or a number with `k`, `m` or `g` (powers of 1024).
        pids: processes and threads at a time.
        network: `bridge` or `none`, "" for the server's default.
        read_only: its root file system cannot be written to.
    """

    qname: str = ""
    container_image: str = ""
    image_pull_policy: str = ""
    content: str = ""
    entrypoint: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    working_directory: str = ""
    env_vars: tuple[str, ...] = ()
    secret_refs: tuple[str, ...] = ()
    secret_file_type: str = ""
    cont_on_warnings: bool = False
    tty: bool = False
    expose_vault_token: bool = False
    timeout: float = 0
    mask_secrets: bool = False
    on_lost: str = ""
    cpus: float = 0
    memory: int | str = 0
    pids: int = 0
    network: str = ""
    read_only: bool = False


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
    """Parse a decrypted payload.

    Raises:
        UndecodableError: not a JSON object, or a field of the wrong type. The message contains no part of the payload.
    """
    return convert(read_object(data, _FIELDS), JobPayload)


def convert(fields: Mapping[str, Any], shape: type[T]) -> T:
    """Convert fields to a struct; fields that it does not have are ignored.

    Raises:
        UndecodableError: names the field and the types, never the value.
    """
    try:
        return msgspec.convert(fields, shape)
    except msgspec.ValidationError as error:
        raise UndecodableError(str(error)) from None

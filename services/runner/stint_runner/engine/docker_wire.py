"""Translates between Stint's terms and Docker's: no input or output."""

import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any, Final

from stint.core.errors import EngineError
from stint.core.submission.limits import Limits
from stint.core.view import parse_time
from stint_runner.engine.port import LOG_DRIVER, MAX_FILE, USER_ID, ContainerInfo, ContainerSpec, Exit, ImageUse, Offers
from stint_runner.registry.references import parse_reference

MAX_FILE_ARCHIVE: Final = MAX_FILE + 64 * 1024  # bytes of the tar around it: headers, and padding to 10 KiB
LOG_FILE: Final = 128 * 10**6  # bytes of a log's file. There are two: when both are full, the older one goes
ENDED: Final = frozenset({"exited", "dead"})  # states of a container that was started and no longer runs
OOM_DELAY: Final = 1.0  # seconds by which the engine may hear of a kill for memory after the exit, mostly at once

_PATH_MAX: Final = 4096  # bytes of the longest path that Linux takes
_LONGEST_CODE: Final = 32  # bits of an exit code. Nobody reads an end with more than 63
_SIGKILLED: Final = 137
_CPU_PERIOD: Final = 100_000  # microseconds; the kernel's default
_STARTED: Final = ENDED | {"running", "paused", "restarting"}
_LOG_CONFIG: Final = {
    # Not json-file: that replaces bytes that are not UTF-8.
    "Type": LOG_DRIVER,
    "Config": {"max-size": f"{LOG_FILE}", "max-file": "2", "compress": "false"},
}
_NO_CORE_DUMPS: Final = {"Name": "core", "Soft": 0, "Hard": 0}
"""The host may collect core dumps outside of the container, and a job's memory holds its secrets."""
_FIGURES: Final = {
    "engine_id": "ID",
    "containers": "Containers",
    "containers_running": "ContainersRunning",
    "containers_paused": "ContainersPaused",
    "containers_stopped": "ContainersStopped",
    "images": "Images",
    "mem_total": "MemTotal",
    "architecture": "Architecture",
    "operating_system": "OperatingSystem",
}
_ENFORCED: Final = {"memory": "MemoryLimit", "cpus": "CpuCfsQuota", "pids": "PidsLimit"}
"""Limits, and what says whether the engine can enforce them."""


def create_config(spec: ContainerSpec) -> dict[str, Any]:
    """The body of `POST /containers/create`. Raises ImageError if the image is not a reference.

    No `Init`: with it a missing command is no longer refused at the start, but ends with 127.
    """
    config: dict[str, Any] = {
        "Image": str(parse_reference(spec.image)),
        "User": f"{USER_ID}:{USER_ID}",
        "OpenStdin": False,
        "Tty": spec.tty,
        "Labels": dict(spec.labels),
        "Env": list({entry.partition("=")[0]: entry for entry in spec.env}.values()),  # the last of each name
        "HostConfig": _host_config(spec),
    }
    if spec.entrypoint:
        config["Entrypoint"] = list(spec.entrypoint)
    if spec.command:
        config["Cmd"] = list(spec.command)
    if spec.working_directory:
        config["WorkingDir"] = spec.working_directory
    if spec.network == "none":
        config["NetworkDisabled"] = True  # saves a third of the start, beside the mode alone
    return config


def frozen_config(spec: ContainerSpec, *, image_id: str, model: str) -> dict[str, Any]:
    """The body that creates a container from the image `image_id`, which was made of the container `model`.

    Files in the model's anonymous volumes are not in that image: the new container takes over the volumes.
    """
    config = create_config(spec)
    host = {**config["HostConfig"], "VolumesFrom": [model]}
    return {**config, "Image": image_id, "HostConfig": host}


def _host_config(spec: ContainerSpec) -> dict[str, Any]:
    host: dict[str, Any] = {"NetworkMode": spec.network, "LogConfig": _LOG_CONFIG}
    if spec.runtime:
        host["Runtime"] = spec.runtime
    if spec.binds:
        # Mounts, not Binds: those make a folder on the host where the source is missing.
        host["Mounts"] = [
            {"Type": "bind", "Source": source, "Target": target, "ReadOnly": True}
            for source, target in spec.binds.items()
        ]
    if spec.hardened:
        host |= {"SecurityOpt": ["no-new-privileges"], "CapDrop": ["ALL"], "Ulimits": [_NO_CORE_DUMPS]}
    if spec.read_only:
        host["ReadonlyRootfs"] = True
    return host | _limits(spec.limits)


def _limits(limits: Limits) -> dict[str, Any]:
    host: dict[str, Any] = {}
    if limits.cpus:
        # Not NanoCpus: of those the engine refuses more than it has, and jobs do not know where they will run.
        host |= {"CpuPeriod": _CPU_PERIOD, "CpuQuota": round(limits.cpus * _CPU_PERIOD)}
    if limits.memory:
        host |= {"Memory": limits.memory, "MemorySwap": limits.memory}
    if limits.pids:
        host["PidsLimit"] = limits.pids
    return host


def label_filter(labels: Mapping[str, str]) -> str:
    """The `filters` parameter of a listing."""
    return json.dumps({"label": _labels(labels)})


def frozen_images(labels: Mapping[str, str]) -> dict[str, list[str]]:
    """The filter for images without a name that bear these labels: nobody else's."""
    return {"label": _labels(labels), "dangling": ["true"]}


def _labels(labels: Mapping[str, str]) -> list[str]:
    """As the engine's filters write them: a name alone matches any value."""
    return [f"{name}={value}" if value else name for name, value in labels.items()]


def container_info(container_id: str, labels: Mapping[str, str] | None, state: str) -> ContainerInfo:
    """An entry of a listing."""
    return ContainerInfo(container_id=container_id, labels=labels or {}, started=state in _STARTED)


def figures(info: Mapping[str, Any]) -> dict[str, str | int]:
    """The part of `GET /info` that the port promises, as far as the engine tells it."""
    return {ours: info[theirs] for ours, theirs in _FIGURES.items() if theirs in info}


def offers(info: Mapping[str, Any]) -> Offers:
    """From `GET /info`."""
    return Offers(
        runtimes=frozenset(info["Runtimes"]),
        log_drivers=frozenset(info["Plugins"]["Log"]),
        unenforced=[ours for ours, theirs in _ENFORCED.items() if not info.get(theirs, True)],
    )


def image_use(inspected: Mapping[str, Any]) -> ImageUse:
    """The image of a container, from an `inspect` of the container."""
    name = parse_reference(inspected["Config"]["Image"]).listed
    return ImageUse(image_id=str(inspected["Image"]), name=name)


def check_paths(inspected: Mapping[str, Any]) -> None:
    """Check what a container would be started with, from an `inspect` of it. Raises EngineError for an impossible path.

    runc 1.1 hangs at a program that does not exist if its name is longer than a pipe holds, 64 KiB, and so do all calls
    about the container then.
    """
    paths = {"program": inspected.get("Path"), "working directory": inspected["Config"].get("WorkingDir")}
    for what, path in paths.items():
        if len((path or "").encode(errors="surrogatepass")) > _PATH_MAX:
            raise EngineError(f"The name of the {what} is longer than {_PATH_MAX} bytes.")


def exit_code(waited: Mapping[str, Any]) -> int:
    """From the answer of `wait`. Raises EngineError if the engine does not know how the container ended."""
    if error := waited.get("Error"):
        raise EngineError(str(error["Message"]))
    code = int(waited["StatusCode"])
    if code.bit_length() > _LONGEST_CODE:
        raise EngineError("The engine tells an exit code that no process can have.")
    return code


def exit_of(code: int, inspected: Mapping[str, Any]) -> Exit:
    """From the exit code and, once that is known, the answer of `inspect`."""
    state = inspected.get("State") or {}
    return Exit(code=code, oom_killed=bool(state.get("OOMKilled")))


def may_be_oom(exited: Exit, inspected: Mapping[str, Any]) -> bool:
    """Whether it may have run out of memory although the engine does not say so."""
    limited = bool(inspected["HostConfig"].get("Memory"))
    return limited and exited.code == _SIGKILLED and not exited.oom_killed


def oom_filter(container_id: str, inspected: Mapping[str, Any]) -> dict[str, str]:
    """The query of `GET /events` for memory kills of a container, up to `OOM_DELAY` seconds after its end."""
    state = inspected["State"]
    start, end = (parse_time(state[name]).timestamp() for name in ("StartedAt", "FinishedAt"))
    filters = {"container": [container_id], "event": ["oom"]}
    return {"since": f"{start:.6f}", "until": f"{end + OOM_DELAY:.6f}", "filters": json.dumps(filters)}


def regular_file(archive: bytes) -> bytes | None:
    """The bytes of the one regular file of at most 1 MiB in a tar, None for anything else."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            member = tar.next()
            stream = tar.extractfile(member) if member and member.isreg() and member.size <= MAX_FILE else None
            return stream.read() if stream else None
    except tarfile.TarError:
        return None

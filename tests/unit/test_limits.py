import json
from typing import Any

import msgspec
import pytest

from stint.core.errors import ConfigError, JobFailedError, UndecodableError
from stint.core.submission.limits import LimitPolicy, Limits, check_limits, parse_memory
from stint.core.submission.payload import JobPayload, parse_payload
from stint.process.environment import load
from stint.process.settings import RunnerSettings

LOGINS = {"STINT_RUNNER_ROLE_ID": "a", "STINT_RUNNER_SECRET_ID": "b", "STINT_ROLE_ID": "c"}
NOTHING = Limits()


def settings(**environ: str) -> RunnerSettings:
    return load(RunnerSettings, {**LOGINS, **environ})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0), (10_000_000, 10_000_000), ("", 0), ("0", 0), ("123", 123), ("123b", 123), ("64k", 65_536),
        ("64K", 65_536), ("64kb", 65_536), ("64KiB", 65_536), ("512m", 2**29), ("512 MB", 2**29), ("1g", 2**30),
        ("1.5G", 3 * 2**29), ("1t", 2**40), ("0.5m", 2**19),
    ],
)  # fmt: skip
def test_memory(text: int | str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    "text",
    ["m", "-1", "+1", "1e3", "1,5g", "1..5g", ".5g", "5.g", " 1g", "1g ", "1  g", "1x", "1gg", "1ki", "1kbb", "0x10",
     "٣m", "1" * 17, "1g\n", "nan", "1p"],
)  # fmt: skip
def test_what_is_no_memory(text: str) -> None:
    with pytest.raises(UndecodableError, match=r"^memory must be ") as caught:
        parse_memory(text)
    assert text.strip() not in str(caught.value) or len(text) == 1


GOOD: list[dict[str, Any]] = [
    {},
    {"timeout": 0.5, "cpus": 0.01, "memory": "6m", "pids": 1, "network": "none", "on_lost": "hold"},
    {"timeout": 31_622_400, "cpus": 10_000, "memory": 2**50, "pids": 2**22, "network": "bridge", "on_lost": "advance"},
    {"timeout": -0.0, "memory": "0g", "network": "", "on_lost": ""},
]


@pytest.mark.parametrize("fields", GOOD)
def test_what_a_job_may_ask_for(fields: dict[str, Any]) -> None:
    check_limits(parse_payload(json.dumps(fields).encode()))


BAD = {
    "timeout": ["-1", "1e-9", "1e9", "1e308", '"60"', "true", "[1]"],
    "cpus": ["-0.5", "0.009", "10001", "1" + "0" * 400, '"1"'],
    "memory": [
        *("-1", "1", str(6 * 2**20 - 1), str(2**51), "1" + "0" * 400, "1.5"),
        *('"5m"', '"-1"', '"lots"', "true", "[]"),
    ],
    "pids": ["-1", str(2**22 + 1), "1" + "0" * 400, "1.5", "true", '"1"'],
    "network": ['"host"', '"container:x"', '"None"', '" "', "1"],
    "on_lost": ['"retry"', '"Hold"', "true"],
    "read_only": ["1", '"true"'],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in BAD.items() for value in values])
def test_what_no_job_may_ask_for(field: str, value: str) -> None:
    with pytest.raises(UndecodableError, match=field) as caught:
        check_limits(parse_payload(f'{{"{field}": {value}}}'.encode()))
    assert len(str(caught.value)) < 100


def test_the_job_wins_over_the_default_and_a_maximum_holds_for_those_who_do_not_ask() -> None:
    policy = LimitPolicy(defaults=Limits(timeout=60, cpus=1, memory=2**30, pids=100))
    assert policy.limits(JobPayload()) == policy.defaults
    asked = JobPayload(timeout=0.5, cpus=2, memory="2g", pids=200)
    assert policy.limits(asked) == Limits(timeout=0.5, cpus=2, memory=2**31, pids=200)
    maxima = Limits(timeout=60, cpus=1, memory=2**30, pids=100)
    asked = JobPayload(timeout=60, cpus=1, memory="1g", pids=100)
    assert [LimitPolicy(defaults=NOTHING, maxima=maxima).limits(job) for job in (JobPayload(), asked)] == [maxima] * 2
    assert LimitPolicy(defaults=Limits(pids=10), maxima=maxima).limits(JobPayload()).pids == 10


@pytest.mark.parametrize(
    ("field", "asked", "maximum", "sentence"),
    [
        ("timeout", 60.5, 60.0, "timeout: the job asks for 60.5 seconds, and at most 60 seconds is allowed here"),
        ("cpus", 2.0, 0.5, "cpus: the job asks for 2, and at most 0.5 is allowed here"),
        ("memory", "20m", 10**7, "memory: the job asks for 20971520 bytes, and at most 10000000 bytes is allowed here"),
        ("pids", 4097, 4096, "pids: the job asks for 4097, and at most 4096 is allowed here"),
    ],
)  # fmt: skip
def test_over_the_maximum(field: str, asked: float | str, maximum: float, sentence: str) -> None:
    policy = LimitPolicy(defaults=NOTHING, maxima=msgspec.convert({field: maximum}, Limits))
    with pytest.raises(JobFailedError) as caught:
        policy.limits(msgspec.convert({field: asked}, JobPayload))
    assert (str(caught.value), caught.value.reason) == (f"{sentence} (STINT_JOB_{field.upper()}_MAX).", "payload")


def test_networks() -> None:
    policy = LimitPolicy(network="build", networks=("none",))
    assert [policy.network_of(JobPayload(network=word)) for word in ("", "none")] == ["build", "none"]
    with pytest.raises(JobFailedError, match=r"asks for bridge, and only build, none .*STINT_JOB_NETWORKS") as caught:
        policy.network_of(JobPayload(network="bridge"))
    assert caught.value.reason == "payload"
    assert LimitPolicy(network="bridge", networks=()).network_of(JobPayload(network="bridge")) == "bridge"


def test_no_settings_and_all_settings() -> None:
    assert settings().limits == LimitPolicy(defaults=Limits(pids=4096))
    assert settings().output_limit == 64 * 2**20
    given = settings(
        STINT_JOB_TIMEOUT="60", STINT_JOB_TIMEOUT_MAX="3600.5", STINT_JOB_CPUS="0.5", STINT_JOB_CPUS_MAX="2",
        STINT_JOB_MEMORY="512m", STINT_JOB_MEMORY_MAX="1g", STINT_JOB_PIDS="100", STINT_JOB_PIDS_MAX="200",
        STINT_JOB_NETWORK="build", STINT_JOB_NETWORKS=" none ,", STINT_OUTPUT_LIMIT="1m",
    )  # fmt: skip
    assert given.limits == LimitPolicy(
        defaults=Limits(timeout=60, cpus=0.5, memory=2**29, pids=100),
        maxima=Limits(timeout=3600.5, cpus=2, memory=2**30, pids=200),
        network="build",
        networks=("none",),
    )
    assert given.output_limit == 2**20


@pytest.mark.parametrize(
    ("environ", "default", "applied"),
    [
        ({"STINT_JOB_PIDS_MAX": "100"}, 100, 100),
        ({"STINT_JOB_PIDS_MAX": "5000"}, 4096, 4096),
        ({"STINT_JOB_PIDS": "0"}, 0, 0),
        ({"STINT_COMPAT": "gostint"}, 0, 0),
        ({"STINT_COMPAT": "gostint", "STINT_JOB_PIDS": "50"}, 50, 50),
        ({"STINT_COMPAT": "gostint", "STINT_JOB_PIDS_MAX": "50"}, 0, 50),
    ],
)
def test_the_built_in_limit_on_processes_yields(environ: dict[str, str], default: int, applied: int) -> None:
    policy = settings(**environ).limits
    assert policy.defaults.pids == default
    assert policy.limits(JobPayload()).pids == applied
    assert policy.limits(JobPayload(pids=7)).pids == 7


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"STINT_JOB_TIMEOUT": "9", "STINT_JOB_TIMEOUT_MAX": "8"}, ["STINT_JOB_TIMEOUT (9)", "TIMEOUT_MAX (8)"]),
        ({"STINT_JOB_CPUS": "2", "STINT_JOB_CPUS_MAX": "1.5"}, ["STINT_JOB_CPUS (2)", "STINT_JOB_CPUS_MAX (1.5)"]),
        ({"STINT_JOB_MEMORY": "2g", "STINT_JOB_MEMORY_MAX": "1g"}, ["STINT_JOB_MEMORY", "STINT_JOB_MEMORY_MAX"]),
        ({"STINT_JOB_PIDS": "4096", "STINT_JOB_PIDS_MAX": "10"}, ["STINT_JOB_PIDS", "STINT_JOB_PIDS_MAX"]),
        ({"STINT_JOB_CPUS": "0.001"}, ["STINT_JOB_CPUS"]),
        ({"STINT_JOB_MEMORY": "5m"}, ["STINT_JOB_MEMORY"]),
        ({"STINT_JOB_MEMORY": "much"}, ["STINT_JOB_MEMORY", "a number of bytes"]),
        ({"STINT_JOB_PIDS": "9999999999"}, ["STINT_JOB_PIDS"]),
        ({"STINT_JOB_NETWORKS": "none,host"}, ["STINT_JOB_NETWORKS"]),
        ({"STINT_OUTPUT_LIMIT": "-1"}, ["STINT_OUTPUT_LIMIT"]),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_meant(environ: dict[str, str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(**environ)
    assert [word for word in words if word not in str(caught.value)] == []

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import AliasChoices

from stint.core.errors import ConfigError
from stint.process.environment import load, setting_names
from stint.process.settings import ApiSettings, NatsAuthSettings, ProjectorSettings, RunnerSettings, Settings

SHAPES = (ApiSettings, RunnerSettings, ProjectorSettings, NatsAuthSettings)
GIVEN = {
    "STINT_API_ROLE_ID": "a", "STINT_API_SECRET_ID": "b", "STINT_RUNNER_ROLE_ID": "c", "STINT_RUNNER_SECRET_ID": "d",
    "STINT_ROLE_ID": "e", "STINT_NATS_AUTH_ISSUER": "f", "STINT_NATS_AUTH_XKEY": "g",
}  # fmt: skip


def numeric() -> Iterator[tuple[type[Settings], str]]:
    """Every setting that is a number, by its first name."""
    for shape in SHAPES:
        defaults = load(shape, GIVEN)
        for name, field in shape.model_fields.items():
            alias = field.validation_alias
            assert isinstance(alias, AliasChoices)
            if isinstance(getattr(defaults, name), int | float) or name == "health_port":
                yield shape, str(alias.choices[0])


@pytest.mark.parametrize(("shape", "name"), list(numeric()))
def test_no_number_is_beyond_what_can_be_counted(shape: type[Settings], name: str) -> None:
    for value in ("nan", "inf", "-inf", "-1", "1e20", "1e400", "9" * 30):
        with pytest.raises(ConfigError, match=name.removesuffix("_MAX")):
            load(shape, GIVEN | {name: value})


@pytest.mark.parametrize("shape", SHAPES)
def test_no_setting_can_be_taken_for_the_file_that_holds_another(shape: type[Settings]) -> None:
    assert [name for name in setting_names(shape) if name.endswith("_FILE")] == []


def test_the_port_may_stand_in_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"STINT_PORT_FILE: the file that it names cannot be read"):
        load(ApiSettings, GIVEN | {"STINT_PORT_FILE": str(tmp_path / "port")})
    (tmp_path / "port").write_text("3233\n")
    for name in ("STINT_PORT", "GOSTINT_PORT"):
        assert load(ApiSettings, GIVEN | {f"{name}_FILE": str(tmp_path / "port")}).port == 3233


def test_an_empty_file_is_no_value(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    given = GIVEN | {"STINT_PORT_FILE": str(tmp_path / "empty")}
    assert load(ApiSettings, given).port == 3232
    with pytest.raises(ConfigError, match="STINT_API_SECRET_ID: required, but not set"):
        load(ApiSettings, given | {"STINT_API_SECRET_ID_FILE": str(tmp_path / "empty")})


@pytest.mark.parametrize(
    ("shape", "given", "said"),
    [
        # With a billionth of a second it claimed the same job a thousand times a second, and never ran it.
        (RunnerSettings, {"STINT_LEASE": "1e-9"}, "STINT_LEASE"),
        (ProjectorSettings, {"STINT_LEASE": "1e-9"}, "STINT_LEASE"),
        *((RunnerSettings, {"STINT_QUEUES": text}, "STINT_QUEUES") for text in (",", " , ", "a\x00b", "x" * 1001)),
        (ApiSettings, {"STINT_KEEP_PAYLOADS": "60"}, "STINT_KEEP_PAYLOADS needs STINT_ERASURE=off"),
    ],
)
def test_what_no_service_could_work_with_is_refused(shape: type[Settings], given: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(shape, GIVEN | given)


def test_copies_of_payloads_are_kept_where_none_must_be_erased() -> None:
    keep = {"STINT_KEEP_PAYLOADS": "60", "STINT_ERASURE": "off"}
    assert load(ApiSettings, GIVEN | keep).keep_payloads == 60

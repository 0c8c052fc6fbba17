"""How commands start: what they import, and that sparing conversions changes no value."""

import subprocess
import sys
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from typer.main import get_group
from typer.testing import CliRunner

from stint.cli.app import app
from stint.cli.jobs.ls import StatusName
from stint.cli.jobs.options import JobOptions
from stint.core.job import State

HEAVY = ("pydantic", "rich.console", "hvac", "nacl", "aiohttp", "nats", "tarfile", "importlib.metadata", "httpx._main")
"""Each takes 10 to 100 ms to import."""

_ENVIRONMENT: Final = {"STINT_URL": "http://127.0.0.1:1", "STINT_TOKEN": "x", "PATH": "", "HOME": "/nonexistent"}
_MAIN: Final = "from stint.cli import main; main()"

BARE: Final = {"api", "runner", "projector", "schema", "rebuild", "demo"}
"""Commands that take nothing."""
Ended = subprocess.CompletedProcess[str]


def ran(*command: str | Path, env: dict[str, str] = _ENVIRONMENT, **options: Any) -> Ended:
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, **options)


def in_shell(script: str, *arguments: str | Path, env: dict[str, str] = _ENVIRONMENT) -> Ended:
    return ran("/bin/sh", "-c", script, sys.executable, _MAIN, *arguments, env=env)


@pytest.mark.parametrize("arguments", ["ls --queue q -o json", "show 65f0c2a1 -o wide", f"kill {'a' * 24}", "queues"])
def test_a_command_imports_nothing_that_it_does_not_need(arguments: str) -> None:
    """It fails at the API, which is not there, after it has imported all that asking takes."""
    code = (
        "import sys\nfrom stint.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 125, end.code\n"
        f"print([name for name in {HEAVY} if sys.modules.get(name)])"
    )
    found = ran(sys.executable, "-c", code, *arguments.split())
    assert (found.stdout.strip(), found.returncode) == ("[]", 0), found.stderr


@pytest.mark.parametrize(
    ("arguments", "streams", "code", "said"),
    [
        ("schema", ">/dev/full", 125, "stint: The output cannot be written: No space left on device.\n"),
        ("schema", ">&-", 0, ""),
        ("top", "<&- >&-", 125, "stint: Stint at http://127.0.0.1:1 is not reachable"),
        ("ls --who \udcff", "", 2, "stint: A text that was given is not valid Unicode.\n"),
        ("submit --image \udcff", "", 2, "stint: The job's fields are wrong: a text is not valid Unicode.\n"),
    ],
)
def test_streams_and_words_are_as_a_shell_may_leave_them(arguments: str, streams: str, code: int, said: str) -> None:
    found = in_shell(f'exec "$0" -c "$@" {streams}', *arguments.split())
    assert (found.returncode, found.stderr[: len(said)]) == (code, said), found.stderr


def test_a_configuration_with_what_is_no_text_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "\udcff"
    found = ran(sys.executable, "-c", _MAIN, "nats-config", folder, errors="surrogateescape")
    assert found.returncode == 2, found.stderr
    assert found.stderr.endswith("nats.conf cannot be written: a path or name in it is not valid Unicode.\n")
    assert not (folder / "nats.conf").exists()


@pytest.mark.parametrize("environment", [{}, {"PYTHONUNBUFFERED": "1"}])
def test_a_disk_that_takes_only_a_part_is_told_of(tmp_path: Path, environment: dict[str, str]) -> None:
    limited = 'ulimit -f 1; exec "$0" -c "$1" schema >"$2"'
    found = in_shell(limited, tmp_path / "schema", env=_ENVIRONMENT | environment)
    assert (tmp_path / "schema").stat().st_size
    assert (found.returncode, found.stderr) == (125, "stint: The output cannot be written: File too large.\n")


def test_a_character_that_the_terminal_lacks_ends_no_command() -> None:
    environment = _ENVIRONMENT | {"PYTHONIOENCODING": "latin-1", "STINT_ROLE": "Größe…"}
    found = ran(sys.executable, "-c", _MAIN, "config", env=environment, encoding="latin-1")
    assert (found.returncode, "Größe?" in found.stdout) == (0, True), found.stderr


@pytest.mark.parametrize(("options", "limits"), [({}, (9, 0.5, 3)), ({"timeout": 0, "cpus": 0, "pids": 0}, (0, 0, 0))])
def test_a_limit_of_0_undoes_that_of_a_file(tmp_path: Path, options: dict[str, int], limits: tuple[float, ...]) -> None:
    file = tmp_path / "job.json"
    file.write_text('{"container_image": "busybox", "timeout": 9, "cpus": 0.5, "pids": 3}')
    job = JobOptions(job_json=str(file), **options).payload()  # type: ignore[arg-type]
    assert (job.timeout, job.cpus, job.pids) == limits


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"Container_Image": "busybox", "timeout": 9}', ""),
        ('\ufeff{"container_image": "busybox", "timeout": 9}\r\n', ""),
        (
            '{"container_image": "busybox", "timeout": 9, "mask_secret": 7, "Run\\u001b": []} x',
            "mask_secret, Run\ufffd",
        ),
        (f'{{"container_image": "busybox", "timeout": 9, "long": {"7" * 5000}}}', "long"),
    ],
)
def test_a_misspelt_field_of_a_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    """And the mark that Windows puts before UTF-8 is none of it."""
    file = tmp_path / "job.json"
    file.write_text(text)
    job = JobOptions(job_json=str(file)).payload()
    assert (job.container_image, job.timeout) == ("busybox", 9)
    rest = f"stint: --job-json: {file} has fields that no job has; they are ignored: {said}\n" if said else ""
    assert capsys.readouterr().err == rest


def test_without_docstrings_nothing_starts() -> None:
    found = ran(sys.executable, "-OO", "-m", "stint", "ls")
    assert (found.returncode, "does not run with -OO" in found.stderr) == (1, True), found.stderr


@pytest.mark.parametrize("name", sorted(get_group(app).list_commands(None)))  # type: ignore[arg-type] # it needs none
def test_a_default_is_the_same_whether_it_is_converted_or_not(name: str) -> None:
    group = get_group(app)
    with group.make_context("stint", [name], resilient_parsing=True) as root:
        command: Any = group.get_command(root, name)
        with command.make_context(name, [], parent=root, resilient_parsing=True) as ctx:
            for parameter in command.params:
                spared = parameter.process_value
                value = parameter.get_default(ctx)
                if not (parameter.required or parameter.callback):
                    assert spared(ctx, value) == type(parameter).process_value(parameter, ctx, value), parameter.name


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("run", "Usage"),
        ("run --nonsense", "No such option"),
        ("run --image x --pull Sometimes", "is not one of"),
        ("run --image x --content /no/such", "/no/such"),
        ("run --image x --queue a\tb", "control characters"),
        ("submit --image x --job-json /nowhere", "--job-json: there is no /nowhere."),
        ("submit --image x --env-file /nowhere", "--env-file: there is no /nowhere."),
        ("submit --image x -run sEcReT", "must be a JSON list of texts"),
        ('submit --image x -run {"a":"sEcReT"}', "must be a JSON list of texts"),
        (f"submit --image x -run {'[' * 100_000}", "must be a JSON list of texts"),
        ('submit --image x -run ["\udcff"]', "must be a JSON list of texts"),
        ("ls -o jsn", "is not one of"),
        ("ls -n 0", "greater than or equal to 1"),
        ("ls -n many", "valid integer"),
        ("ls --status done", "is not one of"),
        ("audit --limit 0", "greater than or equal to 1"),
        ("lineage x --version -1", "greater than or equal to 0"),
        ("events --status done", "is not one of"),
        ("show", "Usage"),
        ("pause q -o table", "is not one of"),
        ("submit --queue q -- true", "Give an image, or content whose gostint.yml names one."),
        ("run --env sEcReT -- true", "must have the form"),
        ("run --secret sEcReT@kv/data/x -- true", "must have the form NAME@path.key"),
        ("""run -secret-refs ["sEcReT@kv/data/x"]""", "must have the form NAME@path.key"),
        ("""submit --image x -secret-refs ["A@x.y","sEcReT"]""", "A value must have the form NAME@"),
        ("""submit --image x -secret-refs ["A@x.y","@sEcReT.y"]""", "A value must have the form NAME@"),
        ("""submit --image x --env-vars ["A=1","sEcReT"]""", "A value must have the form NAME="),
        ("""submit --image x --env-vars ["A=1","=sEcReT"]""", "A value must have the form NAME="),
    ],
)
def test_what_is_wrong_is_refused_and_no_value_repeated_that_may_be_secret(arguments: str, said: str) -> None:
    result = CliRunner().invoke(app, arguments.split(" "), env={"COLUMNS": "200"})
    assert (result.exit_code, said in result.output) == (2, True), result.output
    assert "sEcReT" not in result.output


def test_a_status_can_be_asked_for_by_its_name() -> None:
    assert {*get_args(StatusName), State.DELETED} == {*State}


@pytest.mark.parametrize("name", sorted({*get_group(app).list_commands(None)} - BARE))  # type: ignore[arg-type] # as above
def test_a_commands_help_has_an_example(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"})
    assert f"stint {name} " in result.output.lower().partition("example")[2]


@pytest.mark.parametrize("name", sorted(get_group(app).list_commands(None)))  # type: ignore[arg-type] # as above
def test_a_commands_help_names_its_options_whole_on_a_narrow_terminal(name: str) -> None:
    """And what the environment says in their place, which typer takes for markup unless that is Markdown."""
    group = get_group(app)
    with group.make_context("stint", [name], resilient_parsing=True) as root:
        shown = [option for option in group.get_command(root, name).params if not getattr(option, "hidden", False)]  # type: ignore[union-attr] # it is there
    said = " ".join(CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "80"}).output.replace("│", " ").split())
    names = {name for option in shown for name in option.opts if name.startswith("-")}
    assert [name for name in sorted(names) if f" {name} " not in said] == []
    assert ("STINT_URL]" in said) == ("--url" in names)

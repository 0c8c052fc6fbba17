"""What the documents say about the code is looked up in the code."""

import ast
import re
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from scripts.references.__main__ import documents, fill
from scripts.references.api import application, errors
from scripts.references.bus import events, states
from scripts.references.settings import settings
from typer import Context
from typer.main import get_group

import stint.client
from stint.cli.app import app
from stint.client import Client, JobHandle
from stint.core.events import EVENT_TYPES, Ended
from stint.core.job import State
from stint.core.submission.payload import JobPayload
from stint.core.view import JobView
from stint.process.environment import setting_names
from stint.process.settings import ApiSettings, ProjectorSettings, RunnerSettings
from stint_api.read.standing import Standing
from stint_api.routes.models.base import REASONS
from stint_api.routes.models.fleet import HealthBody
from stint_api.routes.models.jobs import JobBody, ListBody, SubmitBody
from stint_api.routes.responses import KINDS
from stint_api.submit.body import Envelope
from stint_runner.lease.lease import CLOCK_SKEW, KILL, LeaseTimes
from tests.support.documents import FENCE, blocks

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
OPERATIONS = ROOT / "docs" / "operations.md"
MIGRATION = ROOT / "docs" / "guides" / "moving-from-gostint.md"
STATE_MACHINE = ROOT / "docs" / "reference" / "events.md"
GUIDES = sorted([README, OPERATIONS, *ROOT.glob("docs/guides/*.md")])
ADRS = sorted(ROOT.glob("docs/adr/[0-9]*.md"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

NAMES = {name for shape in (ApiSettings, RunnerSettings, ProjectorSettings) for name in setting_names(shape)}
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def code_of(text: str) -> list[str]:
    """Lines of code, in blocks (their comments left out) and in the running text."""
    lines = [line.partition(" #")[0] for body in blocks(text, "sh", "bash") for line in body.splitlines()]
    return [*lines, *SPAN.findall(FENCE.sub("", text))]


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path, text: str) -> Iterator[str]:
    for link in LINK.findall(FENCE.sub("", text)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        known = target.suffix == ".md" and target.is_file() and anchor in anchors(text_of(target))
        if not target.exists() or (anchor and not known):
            yield link


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_command_shows_a_secret_to_whoever_lists_processes(path: Path) -> None:
    shown = re.compile(r"""-H *["']X-\w+-Token|-d *["'].*(token|secret_id)\b""")
    commands = "\n".join(blocks(text_of(path), "sh", "bash"))
    assert [found[0] for found in shown.finditer(commands)] == []


def test_the_references_say_what_the_code_says() -> None:
    assert [path.name for path, text in documents().items() if text_of(path) != text] == [], "run make docs"


def test_every_state_and_event_is_explained() -> None:
    assert [state for state in State if f"| `{state}` | " not in states()] == []
    assert [kind for kind in EVENT_TYPES if not re.search(rf"^\| `{kind}` \| .+\.", events(), re.MULTILINE)] == []
    written = text_of(STATE_MACHINE).partition("| written by |")[2]
    assert [kind for kind in EVENT_TYPES if f"| `{kind}` | " not in written] == [], "say who writes it, in events.md"
    assert [state for state in State if f"**{state}**" not in text_of(STATE_MACHINE)] == [], "explain it in events.md"


def test_every_setting_is_in_the_table() -> None:
    table = settings()
    assert [name for name in sorted(NAMES) if f"`{name}`" not in table] == [], "give it a docstring"


def test_a_block_without_its_marks_is_no_silent_success() -> None:
    with pytest.raises(ValueError, match="other"):
        fill("<!-- settings: x -->\n<!-- /settings -->", {"other": ""})


def test_the_lease_times_are_those_of_the_code() -> None:
    times = LeaseTimes(lease=RunnerSettings.model_fields["lease"].default, takeover=0)
    takeover = RunnerSettings.model_fields["takeover"].default
    words = " ".join(text_of(ARCHITECTURE).split())
    for said in (
        f"`STINT_LEASE` seconds (L, {times.lease:g})",
        f"`STINT_TAKEOVER` seconds (T, {takeover:g})",
        f"F seconds (L/2, {times.fence:g})",
        f"heartbeat h {times.heartbeat:g}, its request r {times.request_timeout:g}, fence F {times.fence:g}",
        f"grace G_f {times.fence_grace:g} and watchdog W {times.watchdog:g}",
        f"a kill K {KILL:g}, server's margin S {times.margin:g}, clocks δ {CLOCK_SKEW:g}",
    ):
        assert said in words


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    return application().openapi()


def operations_of(openapi: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each with its path."""
    return ((path, operation) for path, methods in openapi["paths"].items() for operation in methods.values())


def test_every_route_and_field_has_words(openapi: dict[str, Any]) -> None:
    operations = [operation for _, operation in operations_of(openapi)]
    assert [operation["operationId"] for operation in operations if not operation["description"]] == []
    parameters = [parameter for operation in operations for parameter in operation.get("parameters", ())]
    assert [parameter["name"] for parameter in parameters if not parameter["description"]] == []
    bodies = {name: body for name, body in openapi["components"]["schemas"].items() if name != HealthBody.__name__}
    nameless = [
        f"{name}.{field}"
        for name, body in bodies.items()
        for field, schema in body["properties"].items()
        if not schema.get("description")
    ]
    assert nameless == []


def test_a_submissions_fields_are_those_that_are_read() -> None:
    read = {field for shape in (Envelope, JobPayload) for field in shape.__struct_fields__}
    assert set(SubmitBody.model_json_schema()["properties"]) == read


def test_a_jobs_fields_are_those_of_its_view_and_its_output() -> None:
    view = {*JobView.__struct_encode_fields__} - {"sequence", "submission"}
    wanted = view | {*Standing._fields, "output", "stdout", "stderr"}
    assert {field.alias or name for name, field in JobBody.model_fields.items()} == wanted


def test_every_reason_is_explained() -> None:
    """Those that `Ended` lists, and those that the code gives by name."""
    listed = re.search(r"reason: one word: (.*?);", " ".join((Ended.__doc__ or "").split()))
    assert listed
    assert set(REASONS) - {"", "rejected"} == set(SPAN.findall(listed[1]))
    sources = [path for folder in ("services", "shared") for path in ROOT.glob(f"{folder}/**/*.py")]
    given = {word for path in sources for word in re.findall(r'\breason\s*=\s*"(\w+)"', text_of(path))}
    assert {"killed", "lost", "image", "secrets"} <= given <= set(REASONS)


def test_examples_of_answers_are_whole(openapi: dict[str, Any]) -> None:
    """Each field is there, and no other."""
    for answer in [answer for _, operation in operations_of(openapi) for answer in operation["responses"].values()]:
        content = answer.get("content", {}).get("application/json", {})
        for example in content.get("examples", {}).values():
            body = openapi["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
            assert set(body.get("required", ())) <= set(example["value"]) <= set(body["properties"])
    for model in (JobBody, ListBody, SubmitBody):
        body = model.model_json_schema()
        (example,) = body["examples"]
        assert set(body["required"]) <= set(example) <= set(body["properties"])
        model.model_validate(example)


def test_each_kind_of_error_has_a_row_and_an_example(openapi: dict[str, Any]) -> None:
    """A 400 is `Invalid request.` without a token, and `Invalid job request.` for what is wrong in it."""
    rows = re.findall(r"^\| (\d{3}) \| `([^`]+)` \| (.+) \|$", errors(openapi), re.MULTILINE)
    said = {(int(code), status): when for code, status, when in rows}
    assert {status for code, status in said if code == 400} == {"Invalid request.", "Invalid job request."}
    assert "token" in said[400, "Invalid request."]
    assert "token" not in said[400, "Invalid job request."]
    assert {code for code, _ in said} == {kind.code for kind in KINDS}
    for operation in [operation for path, operation in operations_of(openapi) if path.startswith("/v1/api/job")]:
        examples = operation["responses"].get("400", {}).get("content", {}).get("application/json", {})
        assert set(examples["examples"]) == {"Invalid request.", "Invalid job request."}


def test_the_migration_names_each_setting_that_is_taken_over() -> None:
    table = [line for line in text_of(MIGRATION).splitlines() if line.startswith("| `")]
    accepted = {name for line in table if "| accepted" in line for name in SPAN.findall(line.split("|")[1])}
    missing = {name for line in table if "| no counterpart" in line for name in SPAN.findall(line.split("|")[1])}
    assert {name for name in NAMES if name.startswith("GOSTINT_")} <= accepted <= NAMES
    assert missing
    assert not missing & NAMES


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path: Path) -> None:
    assert list(broken_links(path, text_of(path))) == []


def test_a_broken_link_is_found() -> None:
    text = "[a](nowhere.md) [b](README.md#no-such-heading) [c](README.md#quick-start) [d](LICENSE) [e](#not-here)"
    assert list(broken_links(README, text)) == ["nowhere.md", "README.md#no-such-heading", "#not-here"]


@pytest.mark.parametrize("path", [README, ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name)
def test_make_targets_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    named = {target for line in code_of(text_of(path)) for target in re.findall(r"\bmake ([a-z-]+)", line)}
    assert {"test"} <= named <= targets


def options_by_command() -> dict[str, set[str]]:
    group = get_group(app)
    context = Context(group)
    commands = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {
        name: {option for found in command.params for option in (*found.opts, *found.secondary_opts)} | {"--help"}
        for name, command in commands.items()
        if command
    }


def test_commands_and_options_exist() -> None:
    known = options_by_command()
    named = set()
    for line in (line for path in GUIDES for line in code_of(text_of(path))):
        for name, rest in re.findall(r"(?:^|[\s/])stint ([a-z][a-z-]*)(.*)", line):
            assert name in known, line
            named.add(name)
            options = re.findall(r"(?<!\S)--[a-z-]+", rest.partition(" -- ")[0])
            assert set(options) <= known[name], line
    assert named == set(known), "each command is mentioned"


def test_modules_that_the_architecture_names_exist() -> None:
    found = (path for folder in ("services", "shared", "tests") for path in ROOT.glob(f"{folder}/**/*"))
    files = [f"/{path.relative_to(ROOT)}" for path in found]
    module = re.compile(r"[\w/]+\.py|(?:services|shared)/\S+")
    named = {span for span in SPAN.findall(text_of(ARCHITECTURE)) if module.fullmatch(span)}
    assert named
    assert [name for name in sorted(named) if not any(path.endswith(f"/{name}") for path in files)] == []


def test_tests_that_documents_name_exist() -> None:
    named = {name for path in DOCUMENTS for name in re.findall(r"`(test_\w+)`", text_of(path))}
    known = {
        name
        for path in ROOT.glob("tests/**/*.py")
        for name in re.findall(r"^ *(?:async )?def (test_\w+)", text_of(path), re.MULTILINE)
    }
    assert named
    assert sorted(named - known) == []


def test_each_name_of_the_client_library_is_in_the_guide_and_in_one_of_its_programs() -> None:
    text = text_of(ROOT / "docs" / "guides" / "python.md")
    assert [name for name in stint.client.__all__ if f"`{name}`" not in text] == []
    programs = "\n".join(blocks(text, "python"))
    assert [name for name in stint.client.__all__ if not re.search(rf"\b{name}\b", programs)] == []
    methods = {name for shape in (Client, JobHandle) for name in vars(shape) if name[0] != "_"}
    assert [name for name in sorted(methods) if f".{name}" not in programs] == []


def test_shell_blocks_can_be_read_by_a_shell() -> None:
    found = [body for path in DOCUMENTS for body in blocks(text_of(path), "sh", "bash")]
    assert found
    for body in found:
        assert subprocess.run(["bash", "-n"], input=body, text=True, capture_output=True, check=False).stderr == ""


def test_python_blocks_compile_and_import_what_there_is() -> None:
    found = [body for path in DOCUMENTS for body in blocks(text_of(path), "python")]
    assert found
    for body in found:
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.ImportFrom) and node.module:
                assert all(hasattr(import_module(node.module), alias.name) for alias in node.names)


def test_decisions_are_numbered_and_listed() -> None:
    listed = LINK.findall(text_of(ROOT / "docs" / "adr" / "README.md"))
    assert listed == [path.name for path in ADRS]
    assert re.findall(r"adr/(\d.+)$", text_of(ROOT / "mkdocs.yml"), re.MULTILINE) == listed
    assert [int(path.name[:4]) for path in ADRS] == list(range(1, len(ADRS) + 1))

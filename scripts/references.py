"""Writes what the documents say about the code, from the code itself: `make docs`.

Replaces what is between marks such as `<!-- routes: make docs -->` and `<!-- /routes -->`; the rest is written by hand.
"""

import ast
import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from html import unescape
from pathlib import Path
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer import Context
from typer.cli import get_docs_for_click
from typer.main import get_command

from stint import __version__
from stint.cli.app import app
from stint.core.codec import encode
from stint.core.events import EVENT_TYPES, AnyEvent
from stint.core.job import LEGAL, TERMINAL, State
from stint.core.schema import asyncapi, examples
from stint.jetstream import Broker
from stint.process import settings as shapes
from stint.process.environment import Shape, load
from stint.vault import AppRoleSession, Vault
from stint_api.__main__ import build
from stint_api.app import create_app
from stint_api.routes.models.base import REASONS, WAITS

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / "docs" / "reference"
TOLD: Final = ROOT / "docs" / "events.md"
EXAMPLES: Final = ("subscriber", "notify", "collect")
"""Programs that are shown in a document as they are."""
MARKED: Final = re.compile(r"(<!-- (\w+): .*? -->\n).*?(<!-- /\2 -->)", re.DOTALL)
NOBODY: Final = "[*]"
"""How a state diagram writes a job that was not submitted yet, and the end."""
READERS: Final[dict[str, type[Shape]]] = {
    "all": shapes.Settings,
    "api": shapes.ApiSettings,
    "runner, projector": shapes.LeaseSettings,
    "runner": shapes.RunnerSettings,
    "runner, watchdog": shapes.EngineSettings,
    "projector": shapes.ProjectorSettings,
    "nats-auth": shapes.NatsAuthSettings,
}
"""Who reads a setting, and the class that declares it."""
COMPUTED: Final = {"runner_id": "host name and a random part", "capacity": "twice the CPUs"}
"""Defaults that are computed when the settings are read."""

Json = Mapping[str, Any]


def documents() -> dict[Path, str]:
    """The generated documents with the text that they should have.

    Raises:
        ValueError: a document lacks a block's marks.
    """
    pages = {
        "api": api_blocks(application().openapi()),
        "events": {"diagram": diagram(), "states": states(), "events": events(), "channels": channels()},
        "settings": {"settings": settings()},
    }
    filled = {FOLDER / f"{page}.md": blocks for page, blocks in pages.items()}
    filled[TOLD] = {name: example(ROOT / "examples" / f"{name}.py") for name in EXAMPLES}
    texts = {path: fill(path.read_text(encoding="utf-8"), blocks) for path, blocks in filled.items()}
    contract = json.dumps(asyncapi(__version__), indent=2) + "\n"
    return {**texts, FOLDER / "cli.md": commands(), FOLDER / "asyncapi.json": contract}


def fill(text: str, blocks: Mapping[str, str]) -> str:
    """The text with each block between its marks.

    Raises:
        ValueError: the marks are not those of the blocks.
    """
    marks = [name for _, name, _ in MARKED.findall(text)]
    if sorted(marks) != sorted(blocks):
        raise ValueError(f"The document has the blocks {marks}, and not {[*blocks]}.")
    return MARKED.sub(lambda found: f"{found[1]}{blocks[found[2]]}\n{found[3]}", text)


def example(path: Path) -> str:
    """A Python program as a block of Markdown."""
    return f"```python\n{path.read_text(encoding='utf-8')}```"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def member_docs(shape: type) -> dict[str, str]:
    """The string under each assignment of a class, by the name that is assigned to."""
    body = ast.parse(inspect.getsource(shape)).body[0]
    assert isinstance(body, ast.ClassDef)  # noqa: S101 - tells the type checker what a class's source is
    found: dict[str, str] = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        match statement, following:
            case (
                ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split())
    return found


# --- commands, states, events, settings -----------------------------------------------------------------------------


def commands() -> str:
    """The document that `typer stint.cli.app utils docs` writes, with its entities as characters."""
    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=Context(command), name="stint", title="The command line")
    return f"{unescape(text).strip()}\n"


def diagram() -> str:
    """A Mermaid diagram with one arrow for each state that an event may lead to."""
    arrows = [
        f"    {before or NOBODY} --> {after}: {kind}"
        for before, legal in LEGAL.items()
        for kind, following in legal.items()
        for after in State
        if after in following
    ]
    ends = [f"    {state} --> {NOBODY}" for state in State if state in TERMINAL and not LEGAL[state]]
    return "\n".join(["```mermaid", "stateDiagram-v2", *arrows, *ends, "```"])


def states() -> str:
    """A table of the states, each with its docstring."""
    words = member_docs(State)
    rows = [
        (f"`{state}`", words[state.name], "yes" if state in TERMINAL else "", _code(LEGAL[state]) or "none")
        for state in State
    ]
    return table(("state", "meaning", "over", "events that count in it"), rows)


def events() -> str:
    """A table of the events, each with the first paragraph of its class, and the states in which it counts."""
    rows = []
    for kind, shape in EVENT_TYPES.items():
        meaning = " ".join((inspect.getdoc(shape) or "").split("\n\n")[0].split())
        before = [state or "no job yet" for state, legal in LEGAL.items() if kind in legal]
        rows.append((f"`{kind}`", meaning, ", ".join(before)))
    return table(("event", "meaning", "counts in"), rows)


def channels() -> str:
    """The subjects on NATS, and each message with its fields and an example, from the contract of the bus."""
    contract = asyncapi(__version__)
    subjects = [(f"`{channel['address']}`", _code(channel["messages"])) for channel in contract["channels"].values()]
    return "\n".join([table(("subject", "message"), subjects), output(contract), *map(message, EVENT_TYPES.values())])


def output(contract: Json) -> str:
    """The headers of a chunk of output."""
    headers = contract["components"]["messages"]["output"]["headers"]["properties"]
    rows = [(f"`{name}`", header["description"]) for name, header in headers.items()]
    return f"\n### output\n\nThe body is the bytes that the job wrote.\n\n{table(('header', 'meaning'), rows)}"


def message(shape: type[AnyEvent]) -> str:
    """One event's fields and an example."""
    schema = asyncapi(__version__)["components"]["schemas"][shape.__name__]
    words = attribute_docs(shape)
    rows = [
        (f"`{name}`", field.get("type", ""), "yes" if name in schema["required"] else "", words.get(name, ""))
        for name, field in schema["properties"].items()
        if name != "type"
    ]
    example = msgspec.json.format(encode(examples()[shape.kind])).decode()
    return f"\n### {shape.kind}\n\n{table(('field', 'type', 'required', 'meaning'), rows)}\n\n```json\n{example}\n```"


def attribute_docs(shape: type) -> Mapping[str, str]:
    """What the docstrings of a class and its bases say of its attributes."""
    found: dict[str, str] = {}
    for cls in reversed(shape.__mro__):
        attributes = inspect.cleandoc(cls.__dict__.get("__doc__") or "").partition("Attributes:\n")[2]
        for name, text in re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", attributes, re.MULTILINE):
            found[name] = " ".join(text.split())
    return found


def settings() -> str:
    """A table of the settings, each with its docstring."""
    rows = []
    for reader, shape in READERS.items():
        for name, text in member_docs(shape).items():
            field = shape.model_fields[name]
            rows.append((_code(names_of(field)), reader, default_of(name, field), text))
    return table(("setting", "read by", "default", "meaning"), rows)


def names_of(field: FieldInfo) -> list[Any]:
    """A setting's names in the environment."""
    return field.validation_alias.choices if isinstance(field.validation_alias, AliasChoices) else []


def default_of(name: str, field: FieldInfo) -> str:
    """A setting's default, in words."""
    if field.default_factory is not None:
        return COMPUTED[name]
    if field.default is PydanticUndefined:
        return "must be given; secret" if field.annotation is SecretStr else "must be given"
    if isinstance(field.default, SecretStr):
        return "secret"
    plain = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
    return "" if field.default in {None, ""} else f"`{plain}`"


# --- the API --------------------------------------------------------------------------------------------------------


def application() -> FastAPI:
    """The API. Nothing is connected to."""
    given = load(shapes.ApiSettings, {"STINT_API_ROLE_ID": "none", "STINT_API_SECRET_ID": "none"})
    vault = Vault(given.vault_addr)
    return create_app(build(given, Broker(given.nats_url), vault, AppRoleSession(vault, given.api_role_id, "")))


def api_blocks(api: Json) -> dict[str, str]:
    """The blocks about the API, from its OpenAPI document."""
    schemas = api["components"]["schemas"]
    request = api["paths"]["/v1/api/job"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    routes = [
        (route, operation["description"], ", ".join(sorted({*operation["responses"]} - {"default"})))
        for route, operation in operations(api)
    ]
    parameters = [
        (route, f"`{parameter['name']}`", type_of(parameter["schema"]), parameter["description"])
        for route, operation in operations(api)
        for parameter in operation.get("parameters", ())
        if parameter["in"] != "path"
    ]
    statuses = [(f"`{State[name]}`", text) for name, text in member_docs(State).items() if name != "DELETED"]
    reasons = [(f"`{word}`" if word else '""', text) for word, text in REASONS.items()]
    waits = [(f"`{word}`" if word else '""', text) for word, text in WAITS.items()]
    return {
        "routes": table(("route", "does", "answers"), routes),
        "parameters": table(("route", "parameter", "type", "meaning"), parameters),
        "request": fields(request),
        "job": fields(schemas["JobBody"]),
        "audit": fields(schemas["ActionBody"]),
        "lineage": fields(schemas["HolderBody"]),
        "statuses": table(("`status`", "meaning"), statuses),
        "reasons": table(("`reason`", "meaning"), reasons),
        "waits": table(("`waits_for`", "meaning"), waits),
        "queue": fields(schemas["QueueBody"]),
        "errors": errors(api),
        "health": _code(schemas["HealthBody"]["properties"]),
    }


def operations(api: Json) -> Iterator[tuple[str, Json]]:
    """Each route, as `METHOD /path`, with its operation."""
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            yield f"`{method.upper()} {path}`", operation


def fields(schema: Json) -> str:
    """A table of a body's fields."""
    rows = [(f"`{name}`", type_of(field), field.get("description", "")) for name, field in schema["properties"].items()]
    return table(("field", "type", "meaning"), rows)


def errors(api: Json) -> str:
    """A table of the error answers: an HTTP status with several kinds of body has a row for each."""
    rows = {
        (code, f"`{example['value']['status']}`", example["summary"])
        for _, operation in operations(api)
        for code, answer in operation["responses"].items()
        for example in answer.get("content", {}).get("application/json", {}).get("examples", {}).values()
    }
    return table(("HTTP", "`status`", "when"), sorted(rows))


def type_of(field: Json) -> str:
    """A field's type and bounds, in words."""
    if "anyOf" in field:
        return " or ".join(type_of(choice) for choice in field["anyOf"] if choice.get("type") != "null")
    if field.get("format") == "date-time":
        return "RFC 3339 time"
    if "enum" in field:
        return _code(filter(None, field["enum"]))
    word = f"list of {field['items']['type']}s" if field.get("type") == "array" else str(field.get("type", "object"))
    match field:
        case {"minimum": least, "maximum": most}:
            return f"{word}, {least:g} to {most:g}"
        case {"minimum": least}:
            return f"{word}, {least:g} or more"
    return word


def _code(words: Iterable[object]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def main() -> None:
    """Write the documents."""
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

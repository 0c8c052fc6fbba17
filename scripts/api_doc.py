"""Writes the tables of docs/reference/api.md from the API's OpenAPI document. Run as `python -m scripts.api_doc`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from scripts.state_machine import member_docs, replace_block, table

from stint.core.job import State
from stint.jetstream import Broker
from stint.process.environment import load
from stint.process.settings import ApiSettings
from stint.vault import AppRoleSession, Vault
from stint_api.__main__ import build
from stint_api.app import create_app
from stint_api.routes.models import REASONS

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "reference" / "api.md"
Json = Mapping[str, Any]


def application() -> FastAPI:
    """The API. Nothing is connected to."""
    settings = load(ApiSettings, {"STINT_API_ROLE_ID": "none", "STINT_API_SECRET_ID": "none"})
    vault = Vault(settings.vault_addr)
    session = AppRoleSession(vault, settings.api_role_id, "")
    return create_app(build(settings, Broker(settings.nats_url), vault, session))


def openapi() -> dict[str, Any]:
    """Its OpenAPI document."""
    return application().openapi()


def routes(api: Json) -> str:
    """A table of the routes."""
    rows = [
        (f"`{method.upper()} {path}`", operation["description"], _codes(operation))
        for path, methods in api["paths"].items()
        for method, operation in methods.items()
    ]
    return table(("route", "does", "answers"), rows)


def _codes(operation: Json) -> str:
    return ", ".join(sorted(code for code in operation["responses"] if code != "default"))


def parameters(api: Json) -> str:
    """A table of what a route takes besides its path and body."""
    rows = [
        (f"`{method.upper()} {path}`", f"`{parameter['name']}`", _type(parameter["schema"]), parameter["description"])
        for path, methods in api["paths"].items()
        for method, operation in methods.items()
        for parameter in operation.get("parameters", ())
        if parameter["in"] != "path"
    ]
    return table(("route", "parameter", "type", "meaning"), rows)


def request(api: Json) -> str:
    """A table of a submission's fields."""
    return _fields(api["paths"]["/v1/api/job"]["post"]["requestBody"]["content"]["application/json"]["schema"])


def job(api: Json) -> str:
    """A table of a job's fields."""
    return _fields(api["components"]["schemas"]["JobBody"])


def health(api: Json) -> str:
    """Health's keys."""
    return ", ".join(f"`{key}`" for key in api["components"]["schemas"]["HealthBody"]["properties"])


def _fields(schema: Json) -> str:
    rows = [(f"`{name}`", _type(field), field.get("description", "")) for name, field in schema["properties"].items()]
    return table(("field", "type", "meaning"), rows)


def _type(field: Json) -> str:
    if "anyOf" in field:
        return " or ".join(_type(choice) for choice in field["anyOf"] if choice["type"] != "null")
    if field.get("format") == "date-time":
        return "RFC 3339 time"
    word = f"list of {field['items']['type']}s" if field["type"] == "array" else str(field["type"])
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"] if value)
    return word + _bounds(field)


def _bounds(field: Json) -> str:
    least, most = field.get("minimum"), field.get("maximum")
    if most is not None:
        return f", {least:g} to {most:g}"
    return "" if least is None else f", {least:g} or more"


def statuses() -> str:
    """A table of what a job's `status` can be."""
    words = member_docs(State)
    shown = [state for state in State if state is not State.DELETED]
    return table(("`status`", "meaning"), [(f"`{state}`", words[state.name]) for state in shown])


def reasons() -> str:
    """A table of what a job's `reason` can be."""
    return table(("`reason`", "meaning"), [(f"`{word}`" if word else '""', text) for word, text in REASONS.items()])


def errors(api: Json) -> str:
    """A table of the error answers: an HTTP status with several kinds of body has a row for each."""
    rows = {
        (code, f"`{example['value']['status']}`", example["summary"])
        for code, answer in _answers(api)
        for example in answer.get("content", {}).get("application/json", {}).get("examples", {}).values()
    }
    return table(("HTTP", "`status`", "when"), sorted(rows))


def _answers(api: Json) -> Iterator[tuple[str, Json]]:
    for methods in api["paths"].values():
        for operation in methods.values():
            yield from operation["responses"].items()


def document(text: str) -> str:
    """The document with all its tables generated again."""
    api = openapi()
    blocks = {
        "routes": routes(api),
        "parameters": parameters(api),
        "request": request(api),
        "job": job(api),
        "statuses": statuses(),
        "reasons": reasons(),
        "errors": errors(api),
        "health": health(api),
    }
    for name, block in blocks.items():
        text = replace_block(text, name, block)
    return text


def main() -> None:
    """Rewrite the document."""
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

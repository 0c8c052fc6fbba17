"""What is said of the API, from its OpenAPI document."""

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from scripts.references.markdown import code, member_docs, table

from stint.core.job import State
from stint.jetstream import Broker
from stint.process.environment import load
from stint.process.settings import ApiSettings
from stint.vault import AppRoleSession, Vault
from stint_api.__main__ import build
from stint_api.app import create_app
from stint_api.routes.models.base import REASONS, WAITS

Json = Mapping[str, Any]


def application() -> FastAPI:
    """The API. Nothing is connected to."""
    given = load(ApiSettings, {"STINT_API_ROLE_ID": "none", "STINT_API_SECRET_ID": "none"})
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
        "runner": fields(schemas["RunnerBody"]),
        "errors": errors(api),
        "health": code(schemas["HealthBody"]["properties"]),
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
        return code(filter(None, field["enum"]))
    word = f"list of {field['items']['type']}s" if field.get("type") == "array" else str(field.get("type", "object"))
    match field:
        case {"minimum": least, "maximum": most}:
            return f"{word}, {least:g} to {most:g}"
        case {"minimum": least}:
            return f"{word}, {least:g} or more"
    return word

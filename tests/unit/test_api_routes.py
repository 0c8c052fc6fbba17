"""An ordinary route that somebody adds behaves as the others do, and stands in the document."""

import base64
import hashlib
import re
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Query
from pydantic import BaseModel, Field
from scripts.references.api import application

from stint_api.routes.info import DOCUMENT


class Thing(BaseModel):
    """Something."""

    name: str


@pytest.fixture
def app() -> FastAPI:
    router = APIRouter(prefix="/v1/api/things")

    @router.get("/{number}")
    async def thing(number: int, size: Annotated[int, Query(ge=1), Field(description="How large.")] = 1) -> Thing:
        """A thing."""
        if number == 0:
            raise HTTPException(409, "There is none.")
        return Thing(name=f"<{number * size}>")

    found = application()
    found.include_router(router)
    return found


@pytest.fixture
def http(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api")


async def test_it_answers_as_the_contract_wants(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/api/things/2", params={"size": 3})
    assert (answer.status_code, answer.text) == (200, '{"name":"\\u003c6\\u003e"}\n')
    assert answer.headers["content-type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("path", "code", "status", "error"),
    [
        ("x", 400, "Invalid job request.", "number: Input should be a valid integer, unable to parse string as an int"),
        ("1?size=0", 400, "Invalid job request.", "size: Input should be greater than or equal to 1"),
        ("0", 409, "Conflict.", "There is none."),
    ],
)
async def test_what_is_wrong_or_raised_is_the_contracts_error_body(
    http: httpx.AsyncClient, path: str, code: int, status: str, error: str
) -> None:
    answer = await http.get(f"/v1/api/things/{path}")
    assert (answer.status_code, answer.json()) == (code, {"status": status, "error": answer.json()["error"]})
    assert answer.json()["error"].startswith(error)


async def test_another_method_is_told_its_own_and_it_is_measured_by_its_template(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/api/things/1")
    assert (answer.status_code, answer.headers["allow"], answer.content) == (405, "GET", b"")
    await http.get("/v1/api/things/1")
    assert 'path="/v1/api/things/{number}"' in (await http.get("/v1/api/metrics")).text


async def test_the_page_at_docs_loads_only_what_is_here(http: httpx.AsyncClient) -> None:
    page = await http.get("/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    loaded = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)""", page.text)
    assert loaded == [
        *(f"/docs/{name}" for name in ("swagger-ui.css", "favicon.png", "swagger-ui-bundle.js")),
        DOCUMENT,
    ]
    for path in loaded:
        assert (await http.get(path)).status_code == 200, path
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy.pop("default-src") == "'none'"
    script = re.findall("<script>(.*?)</script>", page.text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in script]
    assert policy.pop("script-src") == f"'self' 'sha256-{digests[0]}'"
    assert len(digests) == 1
    assert not re.search(r"https?:|\*", " ".join(policy.values()))
    assert "://" not in page.text
    other = await http.get("/docs/other.js")
    assert (other.status_code, other.text) == (404, "404 page not found\n")


def test_it_stands_in_the_document_and_promises_no_422(app: FastAPI) -> None:
    operation = app.openapi()["paths"]["/v1/api/things/{number}"]["get"]
    assert operation["description"] == "A thing."
    assert set(operation["responses"]) == {"200", "default"}
    schema = {"$ref": "#/components/schemas/Thing"}
    assert operation["responses"]["200"]["content"] == {"application/json": {"schema": schema}}

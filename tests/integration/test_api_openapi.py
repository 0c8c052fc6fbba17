"""The API answers to whatever its OpenAPI document allows, and to much that it does not, as the document says."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import pytest
import requests
import schemathesis
from schemathesis.checks import CheckContext
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import Response
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from scripts.references.api import application

from stint_api.submit.body import MAX_BYTES
from tests.support.api_bench import BODY, Api
from tests.support.waiting import PATIENCE

JOBS = "/v1/api/job"
Case = schemathesis.Case[Any]
ALERT = "POSSIBLE SECURITY/INTERCEPTION ALERT!!!"


def document() -> dict[str, Any]:
    """The document without its `default`, which would let any status pass."""
    found = application().openapi()
    for methods in found["paths"].values():
        for operation in methods.values():
            operation["responses"].pop("default", None)
    return found


DOCUMENT = document()
WITH_BODY = [
    (method, path)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
    if "requestBody" in operation
]


def schema(**phases: bool) -> BaseSchema:
    """The API as schemathesis sees it; its requests are the same ones each time.

    Checks that do not fit this API are not made: it ignores fields and parameters that it does not know, and reads
    names without regard to case and bodies whatever their content type, so that much of what breaks the document is a
    good request still; and what keeps to it can be refused by Vault.
    """
    generation = {"deterministic": True, "max-examples": 10, "database": "none"}
    enabled = {name: {"enabled": on} for name, on in phases.items()}
    config = SchemathesisConfig.from_dict({"seed": 1, "generation": generation, "phases": enabled})
    return schemathesis.openapi.from_dict(DOCUMENT, config=config)


ALL = schema().exclude(method="POST", path=JOBS).exclude(path="/v1/api/events")
"""A stream of all changes has no end; `test_api_changes.py` has its answers."""
SUBMIT = schema(coverage=False).include(method="POST", path=JOBS)
"""Its fields' borders, one by one, are hundreds of requests: `tests/api` has those that matter."""
ONE_JOB = schema(coverage=False).include(path_regex="job_id")


def only_expected_server_errors(_context: CheckContext, response: Response, case: Case) -> None:
    """None but the one that the contract asks for: a cubbyhole that cannot be read."""
    if response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        return
    assert (case.method, case.path, response.status_code) == ("POST", JOBS, 500), response.text
    assert response.json()["error"].startswith(ALERT)


def no_field_is_undocumented(_context: CheckContext, response: Response, case: Case) -> None:
    """The document leaves room for more fields, as readers should; that there are none is for us to see."""
    operation = DOCUMENT["paths"].get(case.path, {}).get(case.method.lower(), {})
    content = operation.get("responses", {}).get(str(response.status_code), {}).get("content", {})
    if "application/json" in content and response.headers["content-type"][0].startswith("application/json"):
        shape = content["application/json"]["schema"]
        if "$ref" not in shape:
            assert case.path.endswith("/receipt"), "a receipt is bytes that were signed; all others have models"
            return
        name = shape["$ref"].rpartition("/")[2]
        assert set(response.json()) <= set(DOCUMENT["components"]["schemas"][name]["properties"])


def ends_in_a_newline(_context: CheckContext, response: Response, _case: Case) -> None:
    """Answers in JSON are one object and a newline, as the contract has them."""
    if response.headers.get("content-type") == ["application/json; charset=utf-8"]:
        assert response.content.startswith(b"{")
        assert response.content.endswith(b"}\n")


def status_and_content_type_are_documented(context: CheckContext, response: Response, case: Case) -> None:
    """A path with a control character in it is no route, wherever the character stands: a 404 in plain text."""
    path = unquote("".join(str(part) for part in case.path_parameters.values()))
    if path.isprintable():
        status_code_conformance(context, response, case)
        content_type_conformance(context, response, case)
    else:
        assert (response.status_code, response.content) == (404, b"404 page not found\n")


CHECKS = [
    only_expected_server_errors,
    ends_in_a_newline,
    no_field_is_undocumented,
    status_and_content_type_are_documented,
    response_headers_conformance,
    response_schema_conformance,
]


@dataclass
class Target:
    """An API process, and how to make jobs on it."""

    url: str
    session: requests.Session

    @cached_property
    def job_id(self) -> str:
        """A job that is over, and stays."""
        return self.ended_job()

    def ended_job(self) -> str:
        """A job that is over, so that its stream ends."""
        job_id = str(self._post(JOBS, BODY)["_id"])
        self._post(f"{JOBS}/kill/{job_id}", {})
        return job_id

    def _post(self, path: str, body: dict[str, str]) -> Any:
        answer = self.session.post(f"{self.url}{path}", json=body, timeout=PATIENCE)
        assert answer.status_code == HTTPStatus.OK, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def target(own: Api) -> Iterator[Target]:
    server, http = own
    with requests.Session() as session:
        session.trust_env = False
        session.headers["X-Auth-Token"] = http.headers["X-Auth-Token"]
        yield Target(server.url, session)


@ALL.parametrize()
def test_answers_are_as_documented(case: Case, target: Target) -> None:
    validate(case, target)


@SUBMIT.parametrize()
def test_answers_to_submissions_are_as_documented(case: Case, target: Target) -> None:
    validate(case, target)


@ONE_JOB.parametrize()
def test_answers_about_a_job_that_is_there_are_as_documented(case: Case, target: Target) -> None:
    case.path_parameters = {"job_id": target.ended_job() if case.method == "DELETE" else target.job_id}
    validate(case, target)


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_a_body_that_is_too_large_is_refused_as_documented(method: str, path: str, target: Target) -> None:
    url = target.url + path.format(job_id=target.job_id, qname="deploys")
    answer = target.session.request(method, url, data=b" " * (MAX_BYTES + 1), timeout=PATIENCE)
    assert (answer.status_code, answer.json()["status"]) == (413, "Too Large.")
    assert {"408", "413"} <= {*DOCUMENT["paths"][path][method]["responses"]}


def validate(case: Case, target: Target) -> None:
    case.call_and_validate(target.url, target.session, dict(target.session.headers), CHECKS, timeout=PATIENCE)

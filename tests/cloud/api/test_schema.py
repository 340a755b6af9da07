"""The whole API against its own OpenAPI document, by requests that schemathesis makes of it, right and broken.

Each operation gets a fixed number of them, the same each time. Whatever comes: no 5xx, a status, a media type and a
body that the document names, and no broken request taken for a good one. Right ones name what the store has, so that
they come through; and one request of each operation is known to succeed.
"""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import Case, GenerationMode, checks
from schemathesis.config import SchemathesisConfig
from schemathesis.python.asgi import get_client

from tests.cloud.api.seeded import Right, Seeded, right_requests

BROKEN_EXAMPLES = 3
RIGHT_EXAMPLES = 5
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
REFUSALS = [400, 401, 403, 404, 405, 406, 409, 412, 413, 415, 422, 428, 429]
"""Of broken requests; what has more items than it may have can be too large before it is read."""
ANSWER_S = 60.0
"""What a machine that does many things at once may take for an answer: no test asserts a time."""
ENDLESS = "/api/v1/tenants/{t}/events"
BELOW = "/api/v1/tenants/{t}"
REAL = {
    "property": "level2",
    "from": "2023-11-14T22:13:20Z",
    "to": "2023-11-14T22:14:20Z",
    "at": "2023-11-14T22:14:20Z",
}
PEOPLE = {"twin": ["tanks", "line", "draft-1", "nobody"]}
"""Besides names that are there, one that is not."""


def bounded(examples: int):
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def operations() -> list[tuple[str, str]]:
    paths = json.loads((Path(__file__).resolve().parents[2] / "golden" / "openapi.json").read_text())["paths"]
    # Probes take nothing that could be broken.
    return [(path, method) for path in paths if path.startswith("/api/") and path != ENDLESS for method in paths[path]]


def narrowed(document: dict, path: str, method: str, names: dict[str, str]) -> dict:
    """The document with names of what is there in place of any name that an operation takes."""
    operation = copy.deepcopy(document["paths"][path][method])
    for one in operation.get("parameters", []):
        known = PEOPLE.get(one["name"]) or [names.get(one["name"])] if one["in"] == "path" else []
        if one["in"] == "query" and one["name"] in REAL:
            known = [REAL[one["name"]]]
        if known and known[0] is not None:
            kind = one["schema"]["type"]
            one["schema"] = {"type": kind, "enum": [int(k) if kind == "integer" else k for k in known]}
    return {**document, "paths": {path: {method: operation}}}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A store for requests that change nothing."""
    seeded = Seeded(tmp_path_factory.mktemp("schema") / "state")
    yield seeded
    seeded.close()


@pytest.fixture
def own(tmp_path, shared, request):
    """A store of its own for an operation that changes something."""
    if request.getfixturevalue("method") == "get":
        yield shared
        return
    seeded = Seeded(tmp_path / "state")
    yield seeded
    seeded.close()


def operation_of(document: dict, path: str, method: str):
    """One operation; schemathesis works through whatever it is given, so it is given no other."""
    alone = {**document, "paths": {path: {method: document["paths"][path][method]}}}
    config = SchemathesisConfig.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": REFUSALS}}})
    return schemathesis.openapi.from_dict(alone, config=config)[path][method.upper()]


@functools.cache
def caller(seeded: Seeded):
    """Function (case, checks) -> answer to a case that an admin sends to a store, by one client for all of them."""

    async def app(scope, receive, send):
        # schemathesis ends the lifespans it begins after one test, and with them the threads of the app.
        assert scope["type"] != "lifespan"
        await seeded.app(scope, receive, send)

    client = get_client(app)
    client.trust_env = False  # or it looks for proxies at each request
    return functools.partial(
        Case.call_and_validate, session=client, headers=seeded.headers("admin", "acme"), timeout=ANSWER_S
    )


@pytest.fixture(scope="module")
def document(shared):
    return shared.app.openapi()


@pytest.mark.parametrize(("path", "method"), operations())
def test_broken_requests_are_refused_as_the_document_says(shared, document, path, method):
    cases = operation_of(document, path, method).as_strategy(generation_mode=GenerationMode.NEGATIVE)
    call = caller(shared)

    @seed(20)
    @bounded(BROKEN_EXAMPLES)
    @given(case=cases)
    def run(case):
        call(case, checks=[*CHECKS, checks.negative_data_rejection])

    run()


@pytest.mark.parametrize(("path", "method"), operations())
def test_right_requests_are_answered_as_the_document_says(own, document, path, method):
    few = narrowed(document, path, method, own.names["acme"])
    cases = operation_of(few, path, method).as_strategy(generation_mode=GenerationMode.POSITIVE)
    call = caller(own)

    @seed(20)
    @bounded(RIGHT_EXAMPLES)
    @given(case=cases)
    def run(case):
        call(case, checks=CHECKS)

    run()


@pytest.mark.parametrize(("path", "method"), operations())
def test_request_that_fits_what_is_there_succeeds_as_the_document_says(own, document, path, method):
    names = own.names["acme"]
    right = right_requests(names).get((method.upper(), path.removeprefix(BELOW)), Right())
    operation = operation_of(document, path, method)
    wanted = {p["name"] for p in operation.definition.raw.get("parameters", []) if p["in"] == "path"}
    body = (
        {}
        if right.body is None
        else {"body": right.body, "media_type": operation.get_request_payload_content_types()[0]}
    )
    case = operation.Case(
        path_parameters={name: right.path.get(name, names[name]) for name in wanted},
        query=dict(right.query), headers=dict(right.headers), **body,
    )  # fmt: skip
    answer = caller(own)(case, checks=CHECKS)
    assert 200 <= answer.status_code < 300, answer.text

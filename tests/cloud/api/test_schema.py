"""The whole API against its own OpenAPI document, by broken requests that schemathesis makes of it.

Each operation gets a fixed number of them, the same each time. Whatever comes: no 5xx, a status, a media type and a
body that the document names, and no broken request taken for a good one.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode, checks

from tests.cloud.plant import Plant

EXAMPLES = 3
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.negative_data_rejection,
]
ENDLESS = "/api/v1/tenants/{t}/events"
BOUNDED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    plant = Plant(tmp_path_factory.mktemp("schema") / "state")
    gateway = plant.gateway("acme", "north", "gw-1", "tank-1", "tank-2")
    gateway.send({"tank-1-dev.level": 1.5, "tank-2-dev.level": 2.5})
    token = plant.token("admin", "acme")
    app = plant.app()
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    yield schema, {"Authorization": f"Bearer {token}"}
    app.state.threads.close()
    plant.close()


def operations() -> list[tuple[str, str]]:
    golden = Path(__file__).resolve().parents[2] / "golden" / "openapi.json"
    paths = json.loads(golden.read_text())["paths"]
    # Probes take nothing that could be broken.
    return [(path, method) for path in paths if path.startswith("/api/") and path != ENDLESS for method in paths[path]]


@pytest.mark.parametrize(("path", "method"), operations())
def test_broken_requests_are_refused_as_the_document_says(api, path, method):
    schema, headers = api
    cases = schema[path][method.upper()].as_strategy(generation_mode=GenerationMode.NEGATIVE)

    @seed(20)
    @BOUNDED
    @given(case=cases)
    def run(case):
        case.call_and_validate(headers=headers, checks=CHECKS)

    run()

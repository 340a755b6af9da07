"""The public API is what tests/golden/openapi.json says; after a wanted change run this file as a program."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

from tests.cloud.plant import Plant

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "openapi.json"


def text_of(plant: Plant) -> str:
    return json.dumps(plant.app().openapi(), indent=1, sort_keys=True) + "\n"


def test_openapi_document_is_the_golden_one(plant):
    assert json.loads(text_of(plant)) == json.loads(GOLDEN.read_text()), f"python {Path(__file__).name} writes it anew"


def test_every_operation_has_a_unique_id_and_a_summary(plant):
    operations = [o for methods in plant.app().openapi()["paths"].values() for o in methods.values()]
    assert len({o["operationId"] for o in operations}) == len(operations)
    assert all(o["summary"] for o in operations)


def test_every_reference_of_the_document_leads_somewhere(plant):
    document = plant.app().openapi()
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert named <= set(document["components"]["schemas"])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = Plant(Path(folder) / "state")
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text_of(made))
        made.close()

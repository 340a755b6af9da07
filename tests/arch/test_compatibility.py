"""What clients and gateways were written for goes on working: REST against its baseline, the wire against its own.

`tests/golden/openapi-v1.json` and `protos.binpb` are those of the last release; they change with a release alone.
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.arch.breaking import breaking

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
BASELINE = json.loads((GOLDEN / "openapi-v1.json").read_text())
TWIN = "/api/v1/tenants/{t}/sites/{s}/twins/{twin}"
INVITE = "/api/v1/tenants/{t}/gateways:invite"


def test_rest_of_today_serves_programs_of_the_last_release():
    broken = breaking(BASELINE, json.loads((GOLDEN / "openapi.json").read_text()))
    assert not broken, "\n".join(["this would break programs of the last release:", *broken])


def test_document_breaks_nothing_of_itself():
    assert breaking(BASELINE, copy.deepcopy(BASELINE)) == []


def change(place: str, name: str, value: object):
    def apply(document):
        found = document
        for part in place.split("|"):
            found = found[int(part) if part.isdigit() else part]
        if value is None:
            del found[name]
        else:
            found[name] = value

    return apply


SCHEMAS = "components|schemas"


@pytest.mark.parametrize(
    ("apply", "said"),
    [
        (change("paths", TWIN, None), "the path is gone"),
        (change(f"paths|{INVITE}", "post", None), "the method is gone"),
        (change(f"{SCHEMAS}|TwinView|properties", "health", None), "answer.health: the field is gone"),
        (change(f"{SCHEMAS}|TwinView", "required", ["tenant"]), "answer.why: it may be missing now"),
        (change(f"{SCHEMAS}|TwinView|properties|health", "enum", ["ok", "warn", "bad"]), "value 'offline' is gone"),
        (change(f"{SCHEMAS}|TwinView|properties|revision", "type", "string"), "answer.revision: it may be string"),
        (change(f"{SCHEMAS}|InviteRequest", "required", ["site", "gateway", "ttl_s"]), "ttl_s: it is required now"),
        (change(f"{SCHEMAS}|InviteRequest|properties", "ttl_s", None), "body.ttl_s: the field is gone"),
        (change(f"{SCHEMAS}|InviteRequest|properties|ttl_s", "maximum", 60), "maximum is 60 now"),
        (change(f"{SCHEMAS}|InviteRequest|properties|ttl_s", "type", "string"), "it may no more be integer"),
        (change(f"{SCHEMAS}|InviteRequest|properties|site", "pattern", "^a$"), "the pattern is another one"),
        (change(f"paths|{INVITE}|post|responses", "201", None), "it answers 201 no more"),
        (change(f"paths|{TWIN}|get|parameters|0", "name", "x"), "parameter 's' is gone"),
    ],
)  # fmt: skip
def test_what_breaks_programs_is_told_by_its_place(apply, said):
    new = copy.deepcopy(BASELINE)
    apply(new)
    assert any(said in line for line in breaking(BASELINE, new)), breaking(BASELINE, new)


@pytest.mark.parametrize(
    "apply",
    [
        change("paths", "/api/v1/new", {"get": {"responses": {}}}),
        change(f"{SCHEMAS}|TwinView|properties", "more", {"type": "string"}),
        change(f"{SCHEMAS}|InviteRequest|properties", "more", {"type": "string"}),
        change(f"{SCHEMAS}|InviteRequest|properties|ttl_s", "maximum", 10**9),
        change(f"{SCHEMAS}|TwinView|properties|health", "enum", ["ok", "warn", "bad", "offline", "new"]),
    ],
)
def test_what_only_adds_breaks_nothing(apply):
    new = copy.deepcopy(BASELINE)
    apply(new)
    assert breaking(BASELINE, new) == []


def buf(protos: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("buf"), "breaking", protos, "--against", GOLDEN / "protos.binpb"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_wire_of_today_is_understood_by_the_last_release(tmp_path):
    assert buf(ROOT / "protos").returncode == 0, buf(ROOT / "protos").stdout
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    path = next((tmp_path / "protos").rglob("sync.proto"))
    text = path.read_text()
    path.write_text(text.replace("bytes ", "string ", 1))
    broken = buf(tmp_path / "protos")
    assert broken.returncode
    assert "changed type" in broken.stdout

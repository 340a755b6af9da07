"""`twincloud archive`: what was moved, whether it is still there, and a move at once."""

from __future__ import annotations

import json
import logging

import pytest
from sqlalchemy import update

from tests.contract.plant import NOW, Edge, invite
from twincloud.__main__ import run
from twincloud.storage import create, open_store
from twincloud.storage.schema_hours import hour_parts
from twinmodel.clock import SECOND_NS, ManualClock


@pytest.fixture
def twincloud(capsys, tmp_path, monkeypatch):
    """Function: arguments -> (exit code, rows, stderr), with a store that holds a day of years ago."""
    monkeypatch.setattr("twinmodel.logs.configure_logs", lambda _: None)
    logging.getLogger("twincloud").setLevel(logging.WARNING)
    create(tmp_path / "state")
    store = open_store(tmp_path / "state", clock=ManualClock(NOW))
    invite(store)
    edge = Edge(1)
    edge.connect(store)
    edge.send(store, [edge.samples({"plc0.flow": [(NOW + n * SECOND_NS, n / 8) for n in range(100)]})])
    while store.compact(NOW + 86_400 * SECOND_NS):
        pass
    with store._database.write() as connection:
        connection.execute(update(hour_parts).values(bucketed=True))
    store.close()

    def call(*arguments: str):
        code = run(["archive", *arguments, "--state", str(tmp_path / "state")])
        out = capsys.readouterr()
        rows = [line for line in out.out.splitlines() if line.startswith("[{")]
        return code, json.loads(rows[0]) if rows else [], out.err

    return call


def test_a_day_is_moved_verified_and_missed_when_it_is_gone(twincloud, tmp_path):
    assert twincloud("status", "-o", "json") == (0, [], "")
    code, _, err = twincloud("run")
    assert code == 0
    assert "1 days moved to" in err
    (row,) = twincloud("status", "-o", "json")[1]
    assert (row["tenant"], row["state"], row["files"], row["samples"]) == ("acme", "kept", 1, 100)
    assert (row["first_day"], row["last_day"]) == ("2023-11-14", "2023-11-14")
    code, rows, _ = twincloud("verify", "-o", "json")
    assert (code, [row["verdict"] for row in rows]) == (0, ["sound"])
    (path,) = (tmp_path / "state" / "archive").rglob("*.parquet")
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    assert [row["verdict"] for row in twincloud("verify", "--quick", "-o", "json")[1]] == ["sound"]
    code, rows, err = twincloud("verify", "-o", "json")
    assert (code, [row["verdict"] for row in rows]) == (3, ["damaged"])
    assert "1 of 1 files" in err
    path.rename(path.with_name("2023-11-15.parquet"))
    code, rows, _ = twincloud("verify", "-o", "json")
    assert (code, [row["verdict"] for row in rows]) == (3, ["missing", "unknown"])


def test_status_reads_beside_a_service_and_run_leaves_it_alone(twincloud, tmp_path):
    twincloud("run")
    store = open_store(tmp_path / "state", clock=ManualClock(NOW))
    try:
        assert twincloud("status", "-o", "json")[1][0]["files"] == 1
        code, _, err = twincloud("run")
        assert code != 0
        assert "STATE_LOCKED" in err
    finally:
        store.close()

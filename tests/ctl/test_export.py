"""`twinctl twin export` from a real coordinator: the whole history as one file, or none."""

from __future__ import annotations

import csv
import math

import pyarrow.parquet as pq
import pytest

from tests.cloud.plant import START_NS, Plant
from tests.ctl.conftest import Shell, fake_coordinator
from twinmodel.clock import SECOND_NS
from twinmodel.errors import UnreachableError

HOUR_NS = 3_600 * SECOND_NS


@pytest.fixture
def plant(tmp_path):
    made = Plant(tmp_path / "state")
    gateway = made.gateway("acme", "mill", "gw-1", "tank-1")
    for hour in range(3):
        made.clock.advance(3_600)
        t_ns = START_NS + hour * HOUR_NS
        gateway.send({"tank-1-dev.flow": hour + 0.25, "tank-1-dev.level": math.nan}, quality=513, t_ns=t_ns)
        gateway.send({"tank-1/level#estimate": 2.5, "tank-1/level#sigma": 0.125}, t_ns=t_ns)
    gateway.send({"tank-1-dev.flow": 9.0}, t_ns=START_NS)
    yield made
    made.close()


@pytest.fixture
def shell(plant, tmp_path):
    with fake_coordinator.Server(plant.app()) as url:
        said = Shell(tmp_path / "xdg", url, None)
        said.env["HYBRIDTWIN_TOKEN"] = plant.token()
        yield said


SPAN = ("--from", "2023-11-14T22:13:20Z", "--to", "2023-11-15T12:00:00Z")


def test_csv_has_units_in_its_header_a_row_per_time_and_every_sample(shell, tmp_path):
    said = shell("twin", "export", "tank-1", "--csv", *SPAN, "-o", str(tmp_path / "t.csv"))
    assert (said.code, said.out) == (0, "")
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    model = [f"level.{role}" for role in ("estimate", "sigma", "innovation", "drift")]
    assert list(rows[0]) == ["time", "flow", "flow quality", "level", "level quality", *model]
    assert [(row["time"], row["flow"]) for row in rows] == [
        ("2023-11-14T22:13:20.000000000Z", "0.25"), ("2023-11-14T22:13:20.000000000Z", "9.0"),
        ("2023-11-14T23:13:20.000000000Z", "1.25"), ("2023-11-15T00:13:20.000000000Z", "2.25"),
    ]  # fmt: skip
    first = rows[0]
    assert (first["level"], first["level.estimate"], first["level.sigma"]) == ("", "2.5", "0.125")
    assert first["level quality"] == "bad(OUT_OF_RANGE)"


def test_parquet_is_read_by_duckdb_with_every_bit_and_names_its_columns(shell, tmp_path):
    import duckdb  # here, as every worker reads this file

    path = tmp_path / "t.parquet"
    assert shell("twin", "export", "mill/tank-1", *SPAN, "--properties", "flow", "-o", str(path)).code == 0
    of = "read_parquet(?) WHERE signal = 'tank-1-dev.flow' ORDER BY time, commit_no"
    assert [
        value
        for (value,) in duckdb.execute(f"SELECT coalesce(scaled / divisor, value) FROM {of}", [str(path)]).fetchall()
    ] == [0.25, 9.0, 1.25, 2.25]
    about = pq.read_metadata(path).metadata[b"hybridtwin"].decode()
    assert '"tank-1-dev.flow":["flow","measured"]' in about


def test_a_file_that_exists_is_not_replaced_without_force(shell, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("mine")
    said = shell("twin", "export", "tank-1", *SPAN, "-o", str(path))
    assert said.code == 1
    assert "ALREADY_EXISTS" in said.err
    assert path.read_text() == "mine"
    assert shell("twin", "export", "tank-1", *SPAN, "--force", "-o", str(path)).code == 0
    assert path.read_text().startswith("time,")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("tank-9",), "UNKNOWN_TWIN"),
        (("tank-1", "--properties", "flow,colour"), "NOT_FOUND"),
        (("tank-1", "--roles", "guess"), "REQUEST_INVALID"),
        (("tank-1", "--from", "2026-01-01T00:00:00Z", "--to", "2025-01-01T00:00:00Z"), "REQUEST_INVALID"),
    ],
)
def test_what_is_asked_wrongly_gives_a_reason_and_no_file(shell, tmp_path, arguments, reason):
    said = shell("twin", "export", *arguments, "-o", str(tmp_path / "t.csv"))
    assert said.code != 0
    assert reason in said.err
    assert not list(tmp_path.glob("*t.csv*"))


def test_an_answer_that_breaks_off_leaves_no_file(plant, shell, tmp_path, monkeypatch):
    windows = plant.store.export_windows

    def broken(plan):
        yield from windows(plan)
        raise UnreachableError("ARCHIVE_UNREACHABLE", "gone")

    monkeypatch.setattr(plant.store, "export_windows", broken)
    for form in ("--csv", "--parquet"):
        said = shell("twin", "export", "tank-1", form, *SPAN, "-o", str(tmp_path / "t.out"))
        assert said.code == 5
        assert "COORDINATOR_UNREACHABLE" in said.err
    assert not list(tmp_path.glob("*t.out*"))


def test_what_fails_at_the_beginning_is_a_problem_with_its_reason(plant, shell, tmp_path, monkeypatch):
    def broken(_plan):
        raise UnreachableError("ARCHIVE_UNREACHABLE", "gone")
        yield

    monkeypatch.setattr(plant.store, "export_windows", broken)
    said = shell("twin", "export", "tank-1", "--parquet", *SPAN, "-o", str(tmp_path / "t.out"))
    assert said.code == 5
    assert "ARCHIVE_UNREACHABLE" in said.err

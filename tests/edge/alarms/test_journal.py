"""Steps of alarms for people on site: newest first, bounded, readable beside an agent, without one, after a crash."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from tests.edge.alarms.watched import HIGH, Agent, running
from twinedge.alarms import journal
from twinedge.alarms.journal import BEFORE, FILE, Journal, read_journal
from twinedge.cli import cli
from twinmodel.alarms.records import AlarmRecord, Priority, encode
from twinmodel.alarms.states import State

SECOND = 1_000_000_000
T0 = 1_700_000_000 * SECOND


def step(n, alarm="tank-high", state=State.UNACK, **fields):
    known = {
        "rule": "tank-high", "source": "press.level", "active": True, "acked": False, "severity": 500,
        "priority": Priority.MEDIUM, "text": "too high", "value": 9.7, "limit": 9.5, "unit": "m", "quality": "good",
        "cause": "", "count": 1, "by": "", "comment": "", "until_ns": 0, "occurrence": n, "at_ns": T0 + n * SECOND,
    }  # fmt: skip
    return encode(AlarmRecord(**{**known, **fields, "alarm": alarm, "state": state}))


@pytest.fixture
async def kept(tmp_path):
    book = Journal(tmp_path)
    book.add([
        step(1), step(2, "press:Hot", severity=900, priority=Priority.URGENT, source="press"),
        step(3, state=State.ACKED, by="ann", comment="valve"), step(4, state=State.NORM),
    ])  # fmt: skip
    await book.write()
    return tmp_path


def run(state, *words):
    return CliRunner().invoke(cli, ["alarm", *words, "--state", str(state)])


def numbers(state, *words):
    done = run(state, "history", *words, "-o", "json")
    assert done.exit_code == 0, done.output
    return [one["occurrence"] for one in json.loads(done.stdout)]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], [4, 3, 2, 1]),
        (["tank-high"], [4, 3, 1]),
        (["press:*"], [2]),
        (["--step", "UNACK"], [2, 1]),
        (["--step", "NORM", "--step", "ACKED"], [4, 3]),
        (["--priority", "urgent"], [2]),
        (["--source", "press.*"], [4, 3, 1]),
        (["--by", "ann"], [3]),
        (["--from", "2023-11-14T22:13:22Z", "--to", "2023-11-14T22:13:23Z"], [3, 2]),
        (["--from", "10min"], []),
        (["--limit", "1"], [4]),
        (["no-such"], []),
    ],
)
def test_history_is_told_newest_first_and_chosen_from_without_an_agent(kept, words, found):
    assert numbers(kept, *words) == found


def test_history_and_one_alarm_are_told_to_people(kept):
    told = run(kept, "history", "--limit", "2")
    assert "2023-11-14T22:13:23.000Z  ACKED" in told.output
    assert "too high; valve" in told.output
    assert "the newest 2; there are older ones" in told.stderr
    shown = run(kept, "show", "tank-high")
    assert "no agent runs" in shown.stderr
    assert "condition     holds" in shown.output
    assert shown.output.count("tank-high") == 2, "its name and its rule, not in each line"
    unknown = run(kept, "show", "no-such")
    assert (unknown.exit_code, unknown.exception.reason) == (1, "UNKNOWN_ALARM")
    for when in ("yesterday", "9" * 320 + "d"):
        assert run(kept, "history", "--from", when).exit_code == 2


def test_state_directory_without_a_journal_has_no_history(tmp_path):
    assert run(tmp_path, "history").output == "no such step is kept\n"


async def test_journal_is_bounded_and_goes_on_in_the_file_before(tmp_path):
    book = Journal(tmp_path, bytes_max=4 * len(step(1)))
    for n in range(1, 31):
        book.add([step(n)])
        await book.write()
    found = [one.occurrence for one in read_journal(tmp_path)]
    assert found == list(range(30, 30 - len(found), -1))
    assert 5 <= len(found) <= 10
    assert (tmp_path / BEFORE).stat().st_mode & 0o777 == 0o600


async def test_line_that_a_crash_cut_costs_itself_alone(tmp_path):
    (tmp_path / FILE).write_text(step(1) + "\n" + step(2)[:50])
    (tmp_path / BEFORE).write_bytes(b"\xff\xfe no record\n\n" + step(0).encode() + b"\n")
    book = Journal(tmp_path)
    book.add([step(3)])
    await book.write()
    assert [one.occurrence for one in read_journal(tmp_path)] == [3, 1, 0]


async def test_disk_that_refuses_is_told_once_and_what_waits_is_bounded_and_written_later(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "WAITING_MAX", 3)
    away = tmp_path / "away"
    book = Journal(away)
    with capture_logs() as logs:
        for n in range(1, 6):
            book.add([step(n)])
            await book.write()
        away.mkdir()
        await book.write()
    assert [entry["event"] for entry in logs] == [
        "journal of alarms is not written", "journal of alarms is written again"
    ]  # fmt: skip
    assert [one.occurrence for one in read_journal(away)] == [5, 4, 3]
    assert not book.waits


async def test_agent_writes_each_step_also_the_last_one_before_it_ends(site, tmp_path):
    agent = Agent(site([HIGH]), tmp_path)
    await agent.pipeline.use(agent.catalogue)
    async with running(agent.alarms):
        await agent.say(9.7)
    assert [(one.alarm, one.state.value) for one in read_journal(tmp_path)] == [("tank-high", "UNACK")]

"""`twinedge alarm show|history`: one alarm in full, and steps of alarms, beside a running agent or without one."""

from __future__ import annotations

import re
import shlex
from dataclasses import asdict
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from twinedge.cli_options import emit, output_option, pairs, say, state_option, table

if TYPE_CHECKING:
    from twinmodel.alarms.records import AlarmRecord

STATES = ("NORM", "UNACK", "ACKED", "RTNUN", "SHELVED", "SUPPRESSED", "OUT_OF_SERVICE")
PRIORITIES = ("low", "medium", "high", "urgent")
STEPS_SHOWN = 10
_NS = 1_000_000_000
_AGE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(s|min|h|d)")
_UNIT_S = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


def _moment(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """A time as 2026-03-01T12:00:00Z, or an age as 90s, 15min, 8h, 7d; in ns."""
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - --help stays fast

    if value is None:
        return None
    age = _AGE.fullmatch(value.strip())
    if age:
        return SystemClock().wall_ns() - round(float(age[1]) * _UNIT_S[age[2]] * _NS)
    try:
        when = datetime.fromisoformat(value.strip())
    except ValueError:
        text = f"{value!r} is neither a time nor an age; write e.g. 2026-03-01T12:00:00Z, 15min, 8h or 7d"
        raise click.BadParameter(text, ctx, param) from None
    aware = when.replace(tzinfo=UTC) if when.tzinfo is None else when
    return round(aware.timestamp() * 1000) * 1_000_000


@click.command("history")
@click.argument("alarm", required=False)
@click.option(
    "--step", "steps", multiple=True, type=click.Choice(STATES), help="Only steps into this state; repeatable."
)
@click.option(
    "--priority", "priorities", multiple=True, type=click.Choice(PRIORITIES), help="Only this one; repeatable."
)
@click.option("--source", metavar="NAME", help="Only about this signal, device or twin; * stands for any text.")
@click.option("--by", metavar="NAME", help="Only what this person asked for.")
@click.option("--from", "from_ns", metavar="TIME", callback=_moment, help="Only since then: a time, or an age as 8h.")
@click.option("--to", "to_ns", metavar="TIME", callback=_moment, help="Only until then.")
@click.option("--limit", type=click.IntRange(1, 20_000), default=50, show_default=True, help="How many, newest first.")
@state_option
@output_option
def alarm_history(
    alarm: str | None,
    steps: tuple[str, ...],
    priorities: tuple[str, ...],
    source: str | None,
    by: str | None,
    from_ns: int | None,
    to_ns: int | None,
    limit: int,
    state: Path,
    output: str,
) -> None:
    """List the steps alarms went through, the newest first, beside a running agent or without one.

    ALARM is a name; * in it stands for any text.

    \b
    twinedge alarm history tank-high
    twinedge alarm history 'press:*' --step UNACK --from 24h
    """  # noqa: D301  # \b is click's mark for a block kept as it is
    from twinedge.alarms.journal import read_journal  # noqa: PLC0415 - --help stays fast

    def wanted(one: AlarmRecord) -> bool:
        return (
            (alarm is None or _fits(one.alarm, alarm))
            and (not steps or one.state in steps)
            and (not priorities or one.priority in priorities)
            and (source is None or _fits(one.source, source))
            and (by is None or one.by == by)
            and (from_ns is None or one.at_ns >= from_ns)
            and (to_ns is None or one.at_ns <= to_ns)
        )

    found = list(islice((one for one in read_journal(state) if wanted(one)), limit + 1))
    emit(output, [_document(one) for one in found[:limit]], _steps(found[:limit], named=True) or "no such step is kept")
    if len(found) > limit:
        say(f"the newest {limit}; there are older ones")


@click.command("show")
@click.argument("alarm")
@state_option
@output_option
def alarm_show(alarm: str, state: Path, output: str) -> None:
    """Show ALARM in full, and its last steps; without a running agent as it was last told."""
    from twinedge.alarms.journal import read_journal  # noqa: PLC0415 - --help stays fast
    from twinedge.control import ask  # noqa: PLC0415 - --help stays fast
    from twinmodel.errors import MissingError, UnreachableError  # noqa: PLC0415 - --help stays fast

    try:
        document = dict(ask(state, "alarm.show", {"alarm": alarm}))
    except UnreachableError as silent:
        if silent.reason != "AGENT_NOT_RUNNING":
            raise
        document = {}
    steps = list(islice((one for one in read_journal(state) if one.alarm == alarm), STEPS_SHOWN))
    if not document:
        if not steps:
            known = f"twinedge alarm history --state {shlex.quote(str(state.absolute()))}"
            hint = f"see `{known}`; what never stood is known to a running agent alone"
            raise MissingError("UNKNOWN_ALARM", f"no agent runs, and no step of {alarm!r} is kept", hint=hint)
        document = _document(steps[0])
        say("no agent runs: this is how it was last told")
    text = f"{pairs(_facts(document))}\n\n{_steps(steps) or 'no step of it is kept'}"
    emit(output, document | {"steps": [_document(one) for one in steps]}, text)


def _fits(name: str, wanted: str) -> bool:
    return fnmatchcase(name, wanted) if "*" in wanted else name == wanted


def _document(one: AlarmRecord) -> dict[str, Any]:
    return {**asdict(one), "state": one.state.value, "priority": one.priority.value}


def _steps(found: list[AlarmRecord], *, named: bool = False) -> str:
    """Steps as a table, "" for none."""
    if not found:
        return ""
    rows = [
        [
            _time(one.at_ns),
            one.state.value,
            *([one.priority.value, one.alarm] if named else []),
            one.occurrence,
            f"{_value(one.value)} {one.unit}".strip(),
            one.by,
            "; ".join(part for part in (one.text, one.comment) if part),
        ]
        for one in found
    ]
    head = ["TIME", "STEP", *(["PRIORITY", "ALARM"] if named else []), "OCCURRENCE", "VALUE", "BY", "TEXT AND COMMENT"]
    return table(head, rows)


def _facts(document: dict[str, Any]) -> dict[str, object]:
    """What `show` says of one alarm; what there is nothing to say of is left out."""
    unit = document["unit"]
    facts = {
        "alarm": document["alarm"],
        "state": document["state"],
        "priority": f"{document['priority']} ({document['severity']})",
        "text": document["text"],
        "condition": "holds" if document["active"] else "does not hold",
        "acknowledged": "yes" if document["acked"] else "no",
        "value": f"{_value(document['value'])} {unit}".strip() if document["value"] is not None else "",
        "limit": "" if document["limit"] is None else f"{_value(document['limit'])} {unit}".strip(),
        "quality": document["quality"],
        "rule": document["rule"],
        "source": document["source"],
        "cause": document["cause"],
        "count": document["count"] if document["count"] > 1 else "",
        "occurrence": document["occurrence"],
        "since": _time(document["at_ns"]),
        "shelved until": _time(document["until_ns"]),
        "by": document["by"],
        "comment": document["comment"],
    }
    return {name: fact for name, fact in facts.items() if fact not in ("", None)}


def _value(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _time(t_ns: int) -> str:
    """To the millisecond, UTC."""
    if not t_ns:
        return ""
    moment = datetime.fromtimestamp(t_ns // _NS, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}.{t_ns % _NS // 1_000_000:03d}Z"

"""`twinedge alarm`: what stands at this gateway, seen and handled on site; the coordinator learns of each step."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from twinedge.cli_alarm_history import alarm_history, alarm_show
from twinedge.cli_options import emit, output_option, say, state_option, table

F = TypeVar("F", bound=Callable[..., Any])
_NS = 1_000_000_000


def _seconds(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """A time such as 30min or 8h, in seconds."""
    from twinmodel.profile.schema import parse_duration  # noqa: PLC0415 - --help stays fast

    try:
        found = parse_duration(value)
    except ValueError as wrong:
        raise click.BadParameter(str(wrong), ctx, param) from None
    return float(str(found)) / _NS


def _who(function: F) -> F:
    function = click.option("--comment", default="", help="Why; it is kept with the step.")(function)
    return click.option("--by", default=getpass.getuser, show_default="the login name", help="Who asks.")(function)


@click.group("alarm")
def alarm_group() -> None:
    """See and handle the alarms of this gateway."""


for _one in (alarm_history, alarm_show):
    alarm_group.add_command(_one)


@alarm_group.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that are normal, or that another one stands for.")
@state_option
@output_option
def alarm_list(state: Path, output: str, *, everything: bool) -> None:
    """List what stands, the most urgent first; unacknowledged before acknowledged."""
    from twinedge.control import ask  # noqa: PLC0415 - --help stays fast

    answer = ask(state, "alarm.list", {"all": everything})
    alarms = answer["alarms"]
    rows = [
        [a["state"], a["priority"], a["alarm"], _count(a["count"]), a["occurrence"], _time(a["at_ns"]), a["text"]]
        for a in alarms
    ]
    head = ["STATE", "PRIORITY", "ALARM", "COUNT", "OCCURRENCE", "SINCE", "TEXT"]
    emit(output, alarms, table(head, rows) if rows else "no alarm stands")
    if answer["total"] > len(alarms):
        say(f"{answer['total'] - len(alarms)} more are not shown")


@alarm_group.command("ack")
@click.argument("alarm")
@click.option("--occurrence", type=int, help="Only if it is still this occurrence, as `list` shows it.")
@_who
@state_option
@output_option
def alarm_ack(alarm: str, occurrence: int | None, by: str, comment: str, state: Path, output: str) -> None:
    """Acknowledge ALARM: somebody has seen it. One that latches is reset once its condition has gone."""
    _ask(state, output, "ack", {"alarm": alarm, "occurrence": occurrence, "by": by, "comment": comment})


@alarm_group.command("shelve")
@click.argument("alarm")
@click.option("--for", "for_s", metavar="TIME", callback=_seconds, required=True, help="How long: 30min, 8h.")
@_who
@state_option
@output_option
def alarm_shelve(alarm: str, for_s: float, by: str, comment: str, state: Path, output: str) -> None:
    """Hide ALARM for a while; then it shows again by itself, if its condition still holds."""
    _ask(state, output, "shelve", {"alarm": alarm, "for_s": for_s, "by": by, "comment": comment})


@alarm_group.command("unshelve")
@click.argument("alarm")
@_who
@state_option
@output_option
def alarm_unshelve(alarm: str, by: str, comment: str, state: Path, output: str) -> None:
    """Show ALARM again before its time."""
    _ask(state, output, "unshelve", {"alarm": alarm, "by": by, "comment": comment})


@alarm_group.command("out-of-service")
@click.argument("alarm")
@_who
@state_option
@output_option
def alarm_out_of_service(alarm: str, by: str, comment: str, state: Path, output: str) -> None:
    """Take ALARM out of service, as for maintenance, until `in-service`."""
    _ask(state, output, "out_of_service", {"alarm": alarm, "by": by, "comment": comment})


@alarm_group.command("in-service")
@click.argument("alarm")
@_who
@state_option
@output_option
def alarm_in_service(alarm: str, by: str, comment: str, state: Path, output: str) -> None:
    """Put ALARM back into service; it shows at once if its condition holds."""
    _ask(state, output, "in_service", {"alarm": alarm, "by": by, "comment": comment})


def _ask(state: Path, output: str, do: str, body: dict[str, Any]) -> None:
    from twinedge.control import ask  # noqa: PLC0415 - --help stays fast

    found = ask(state, f"alarm.{do}", body)
    until = f" until {_time(found['until_ns'])}" if found["until_ns"] else ""
    emit(output, found, f"{found['alarm']} is {found['state']}{until}")
    told = found.get("device")
    if told is not None:
        outcome = {"SUCCEEDED": "its device knows", "FAILED": "its device was not told"}.get(told["outcome"])
        say(f"{outcome or 'nobody knows whether its device took it'}: {told['detail']}")


def _count(count: int) -> str:
    return str(count) if count > 1 else ""


def _time(t_ns: int) -> str:
    """To the second, UTC."""
    return datetime.fromtimestamp(t_ns / _NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if t_ns else ""

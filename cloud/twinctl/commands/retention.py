"""`twinctl retention`: how long history is kept, and what that would let go of."""

from __future__ import annotations

import click

from twinctl.options import Noun, client_of
from twinctl.render import Column, Json, emit, instant, say
from twinmodel.errors import MissingError

_DAYS = click.IntRange(0, 36_500)
PATH = "/retention"


@click.group(cls=Noun)
def retention() -> None:
    """How long history is kept: show, set, plan."""


@retention.command()
@click.pass_context
def show(ctx: click.Context) -> None:
    """Show all policies, the most specific first; signals that no pattern fits are kept for ever."""
    view = client_of(ctx).get(PATH)
    emit(ctx, view["policies"], POLICY, empty="no policies: everything is kept for ever")


@retention.command("set")
@click.argument("pattern")
@click.option("--raw-days", type=_DAYS, help="Days of samples, where there is no archive; 0 for ever.")
@click.option("--archive-days", type=_DAYS, help="Days of samples, where there is an archive; 0 for ever.")
@click.option("--bucket-days", type=_DAYS, help="Days of the minutes made of samples; 0 for ever.")
@click.option("--remove", is_flag=True, help="Remove the policy.")
@click.option("--dry-run", is_flag=True, help="Change nothing, and say what would go.")
@click.pass_context
def set_(
    ctx: click.Context, pattern: str, raw_days: int | None, archive_days: int | None, bucket_days: int | None,
    remove: bool, dry_run: bool,  # noqa: FBT001 flags of the command
) -> None:  # fmt: skip
    """Say how long signals that fit PATTERN are kept, e.g. `plc0.*`; what goes does not come back.

    Options that are not given stay as they were.
    """
    client = client_of(ctx)
    view, tag = client.get_tagged(PATH)
    policies: list[Json] = view["policies"]
    there = next((one for one in policies if one["pattern"] == pattern), None)
    if remove and there is None:
        raise MissingError("NOT_FOUND", f"there is no policy {pattern!r}", hint="see `twinctl retention show`")
    rest = [one for one in policies if one["pattern"] != pattern]
    given = {"raw_days": raw_days, "archive_days": archive_days, "buckets_days": bucket_days}
    said = {name: days for name, days in given.items() if days is not None}
    wanted = rest if remove else [*rest, {"pattern": pattern} | (there or {}) | said]
    if dry_run:
        _tell(ctx, client.send("POST", f"{PATH}:plan", {"policies": wanted}))
        return
    view = client.send("PUT", PATH, {"policies": wanted}, headers={"If-Match": tag})
    emit(ctx, view["policies"], POLICY, empty="no policies: everything is kept for ever")


@retention.command()
@click.pass_context
def plan(ctx: click.Context) -> None:
    """Say what the policies let go of now; nothing is changed."""
    _tell(ctx, client_of(ctx).send("POST", f"{PATH}:plan", {}))


def _tell(ctx: click.Context, view: Json) -> None:
    counted = "archive days count, raw days do not" if view["archiving"] else "nothing is archived: raw days count"
    say(f"{counted}; {view['archived_files']} archived files would be deleted ({view['archived_bytes']} bytes)")
    emit(ctx, view["items"], GOING, empty="no history is kept yet")


def _days(name: str) -> Column:
    return name.replace("_", " "), lambda policy: policy[name] or "for ever"


POLICY: list[Column] = [
    ("pattern", lambda policy: policy["pattern"]),
    *(_days(name) for name in ("raw_days", "archive_days", "buckets_days")),
]
GOING: list[Column] = [
    ("pattern", lambda one: one["policy"]["pattern"]),
    *((name, lambda one, name=name: one[name]) for name in ("signals", "samples", "bytes")),
    ("archived samples", lambda one: one["archived_samples"]),
    ("from", lambda one: instant(one["from_time"])),
    ("to", lambda one: instant(one["to_time"])),
]

"""The machine around the agent: folders and their rights, disk, clock, kernels, service."""

from __future__ import annotations

import os
import resource
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from twinedge.config.load import load_site
from twinedge.doctor.finding import Finding, Place, bad, ok, warn
from twinedge.health.clock import kernel_is_synchronised
from twinedge.install import unit
from twinmodel.clock import BUILD_NS, MILLISECOND_NS, Clock, ClockQuality
from twinmodel.errors import TwinError
from twinmodel.kernel import aot, machine, warmup
from twinmodel.kernel.warmup import FAMILIES

FREE_MIN_BYTES = 200 << 20
SYNC_SLOW_NS = 250 * MILLISECOND_NS
SYNCS = 3
FILES_MIN = 1024
SECRETS = ("identity/key.pem", "opcua/own.pem", "control.sock")
PERMISSIONS, FOLDER, KERNELS, UNIT = "permissions", "folder", "kernels", "unit"


def look_at_folder(place: Place) -> Iterator[Finding]:
    """State directory: there, ours, for us alone."""
    state = place.state
    if not state.is_dir():
        yield bad("state directory", f"{state} is not there", "give --state, or run the agent once", FOLDER)
        return
    owner = state.stat()
    open_to = [path for path in (state, *(state / name for name in SECRETS)) if _is_open(path)]
    if open_to:
        names = ", ".join(str(path) for path in open_to)
        yield bad("state directory", f"others may read {names}", "only the agent's user may", PERMISSIONS)
    elif owner.st_uid != os.geteuid() and os.geteuid() != 0:
        yield warn("state directory", f"{state} belongs to user {owner.st_uid}", "run it as the agent's user")
    else:
        yield ok("state directory", f"{state}, for user {owner.st_uid} alone")
    damaged = sorted(path.name for path in state.rglob("*.damaged"))
    if damaged:
        yield warn("damaged files", f"set aside: {', '.join(damaged[:5])}", "they may be deleted once looked at")


def look_at_disk(place: Place) -> Iterator[Finding]:
    """Room beside the spool's budget, and what a commit costs."""
    state = place.state
    if not state.is_dir():
        return
    usage = shutil.disk_usage(state)
    try:
        budget = load_site(place.config).site.spool.disk
    except TwinError:
        budget = 0
    used = sum(path.stat().st_size for path in state.glob("spool.db*") if path.is_file())
    left = usage.free - max(budget - used, 0)
    text = f"{usage.free >> 20} MiB free of {usage.total >> 20}, the spool may still take {max(budget - used, 0) >> 20}"
    if left < 0:
        yield bad("disk", text, "lower `spool.disk`, or give the disk more room: the budget cannot be kept")
    elif left < FREE_MIN_BYTES:
        yield warn("disk", text, f"less than {FREE_MIN_BYTES >> 20} MiB would be left for everything else")
    else:
        yield ok("disk", text)
    yield _synced(state, place.clock)


def look_at_clock(place: Place) -> Iterator[Finding]:
    """Whether the time can be believed."""
    now_ns = place.clock.wall_ns()
    if now_ns < BUILD_NS:
        yield bad("clock", "it stands before this software was built", "set it, or let NTP do so")
    elif not kernel_is_synchronised():
        text = f"nobody keeps it right (quality {ClockQuality.FREE.name})"
        yield warn("clock", text, "let chrony or systemd-timesyncd run; samples carry the quality meanwhile")
    else:
        yield ok("clock", "kept right by the system")


def look_at_kernels(place: Place) -> Iterator[Finding]:
    """What models will run on."""
    if place.state.is_dir() and place.state.stat().st_uid != os.geteuid():
        yield ok("kernels", "not looked at: they are the agent's user's, run it as that")
        return
    folder = warmup.cache_folder(place.kernel_cache)
    if folder is None:
        hint = "make it the agent's alone (0700), below folders that nobody else can write"
        yield warn("kernels", f"no private folder for compiled kernels ({place.kernel_cache or 'default'})", hint)
        return
    if aot.path(folder).exists():
        yield ok("kernels", f"linked library in {folder}")
        return
    missing = [family for family in FAMILIES if not (folder / machine.file_name(family)).exists()]
    if missing:
        text = f"not compiled yet: {', '.join(missing)}; models begin interpreted"
        yield warn("kernels", text, "`twinedge warmup` compiles them", KERNELS)
    else:
        yield ok("kernels", f"{len(FAMILIES)} compiled in {folder}")


def look_at_service(place: Place) -> Iterator[Finding]:
    """The unit, where the agent is one."""
    path = place.root / unit.UNIT_FOLDER / unit.UNIT
    if not path.exists():
        yield ok("service", "not installed as one; `twinedge service install` does it")
        return
    try:
        expected = unit.unit_text(unit.Service(unit.this_program(), place.config.absolute(), place.state.absolute()))
    except TwinError as error:
        yield warn("service", error.message, error.hint or "")
        return
    if path.read_text() == expected:
        yield ok("service", f"{path} starts this installation")
    else:
        yield warn("service", f"{path} differs from what this version would write", "compare, then install again", UNIT)


def look_at_limits(_place: Place) -> Iterator[Finding]:
    """Descriptors and memory."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES_MIN:
        yield warn("limits", f"{soft} open files at most", f"allow {FILES_MIN}: a gateway of many devices needs them")
    else:
        yield ok("limits", f"{soft} open files")


def _is_open(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    except FileNotFoundError:
        return False


def _synced(state: Path, clock: Clock) -> Finding:
    """Makes a small file durable a few times; the slowest tells what a commit may wait for."""
    path = state / ".doctor"
    slowest_ns = 0
    try:
        for _ in range(SYNCS):
            with path.open("wb") as file:
                begun_ns = clock.boot_ns()
                file.write(bytes(4096))
                file.flush()
                os.fsync(file.fileno())
                slowest_ns = max(slowest_ns, clock.boot_ns() - begun_ns)
    except OSError as refused:
        return bad("durability", f"{state} cannot be written: {refused.strerror}", "is it full or read-only?")
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    text = f"4 KiB are durable within {slowest_ns // MILLISECOND_NS} ms"
    if slowest_ns > SYNC_SLOW_NS:
        return warn("durability", text, "a slow card: let blocks be longer (`spool.sync_telemetry`)")
    return ok("durability", text)

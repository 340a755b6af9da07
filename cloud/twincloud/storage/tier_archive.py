"""The last tier: days in Parquet files, each signal read by its own bytes.

    kept files of the span ─▶ row groups of the signals ─▶ range reads ─▶ runs

A footer and the bytes of a row group never change, so both are held; an archive that does not answer fails only
what asks for its days.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, select

from twincloud.archive.objects import ObjectStore
from twincloud.archive.runs import ArchivedRun, Group
from twincloud.storage.kept import since_of
from twincloud.storage.records_archives import DAY_NS, Archive, FileState, archive_of
from twincloud.storage.schema_archives import archives as a
from twincloud.storage.tiers import Run, Wanted
from twincloud.twins.state import Origin
from twinmodel.errors import InputError, MissingError, StorageError, UnreachableError

if TYPE_CHECKING:
    from twincloud.archive.parquet import Footer

HELD_BYTES_MAX = 64 << 20
"""Bytes of footers and row groups kept in memory."""
SAMPLES_MAX = 50_000_000
"""Samples of the row groups one answer looks at."""
DAYS_MAX = 4_000


class ArchiveTier:
    """See `Tier`."""

    name = "archive"

    def __init__(self) -> None:
        self.objects: ObjectStore | None = None
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[str, str, int, int], bytes] = OrderedDict()
        self._bytes = 0
        self._footers: OrderedDict[tuple[str, str], tuple[Footer, tuple[Origin, ...]]] = OrderedDict()

    def read(self, connection: Connection, wanted: Wanted) -> list[Run]:
        """See `Tier.read`; raises what the place of the archive raises too."""
        asked = {
            "tenant": wanted.tenant, "gateways": list(wanted.gateways), "to_ns": wanted.to_ns,
            "from_ns": wanted.from_ns, "limit": DAYS_MAX + 1,
        }  # fmt: skip
        rows = connection.execute(_KEPT, asked).mappings().all()
        found = [
            (file, [g for g in file.groups if _touches(g, wanted)]) for file in (archive_of(dict(row)) for row in rows)
        ]
        samples = sum(group.rows for _, groups in found for group in groups)
        if samples > SAMPLES_MAX or len(rows) > DAYS_MAX:
            raise InputError(
                "LIMIT_EXCEEDED", f"the span holds {samples} archived samples", hint="ask for a shorter span"
            )
        since = since_of(connection, wanted) if samples else {}
        runs = (run for file, groups in found if groups for run in self.runs(file, groups))
        cut = (_cut(run, wanted, since.get((run.gateway, run.signal), 0)) for run in runs)
        return [run for run in cut if len(run)]

    def runs(self, file: Archive, groups: list[Group]) -> list[Run]:
        """The runs of some row groups of a file, whole."""
        from twincloud.archive.parquet import read_groups  # noqa: PLC0415 pyarrow takes 60 MB that few need

        footer, origins = self._footer(file)
        fetch = partial(self._fetch, file)
        return [_run(one, file.day.gateway_id, origins) for one in read_groups(fetch, footer, groups)]

    def _footer(self, file: Archive) -> tuple[Footer, tuple[Origin, ...]]:
        key = (file.key, file.sha256)
        with self._lock:
            held = self._footers.get(key)
            if held is not None:
                self._footers.move_to_end(key)
                return held
        from twincloud.archive.parquet import read_footer  # noqa: PLC0415 as above

        footer = read_footer(partial(self._fetch, file), file.size, file.key)
        if footer.rows != file.samples:
            raise StorageError("ARCHIVE_DAMAGED", f"{file.key} has {footer.rows} samples, {file.samples} were sent")
        made = (footer, tuple(Origin(*row) for row in footer.origins))
        with self._lock:
            self._footers[key] = made
            while len(self._footers) > _FOOTERS_MAX:
                self._footers.popitem(last=False)
        return made

    def _fetch(self, file: Archive, offset: int, length: int) -> bytes:
        if self.objects is None:
            raise UnreachableError("ARCHIVE_UNREACHABLE", "this process was given no archive", hint="set `archive:`")
        key = (file.key, file.sha256, offset, length)
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                self._held.move_to_end(key)
                return held
        try:
            content = self.objects.get(file.key, offset, length)
        except MissingError as error:
            raise StorageError("ARCHIVE_DAMAGED", f"{file.key} is gone from {self.objects.name}") from error
        with self._lock:
            if key not in self._held:
                self._held[key] = content
                self._bytes += len(content)
            while self._bytes > HELD_BYTES_MAX:
                self._bytes -= len(self._held.popitem(last=False)[1])
        return content


_FOOTERS_MAX = 128


def _touches(group: Group, wanted: Wanted) -> bool:
    return group.signal in wanted.signals and group.from_ns < wanted.to_ns and group.to_ns >= wanted.from_ns


def _run(one: ArchivedRun, gateway: int, origins: tuple[Origin, ...]) -> Run:
    # Only the origins used: readers sort and compare them.
    used, origin = np.unique(one.origin, return_inverse=True)
    return Run(
        gateway, one.signal, one.kind, one.unit, one.t_ns, one.value, one.quality, one.commit_no,
        origin.astype(np.int32), tuple(origins[place] for place in used.tolist()), one.seq,
    )  # fmt: skip


def _cut(run: Run, wanted: Wanted, since_ns: int) -> Run:
    inside: NDArray[np.bool_] = (run.t_ns >= max(wanted.from_ns, since_ns)) & (run.t_ns < wanted.to_ns)
    inside &= run.commit_no <= wanted.known
    return run if inside.all() else run.take(inside)


_KEPT = (
    select(a)
    .where(
        a.c.tenant == bindparam("tenant"),
        a.c.gateway_id.in_(bindparam("gateways", expanding=True)),
        a.c.state == int(FileState.KEPT),
        a.c.day_ns < bindparam("to_ns"),
        a.c.day_ns > bindparam("from_ns") - DAY_NS,
    )
    .order_by(a.c.gateway_id, a.c.day_ns)
    .limit(bindparam("limit"))
)

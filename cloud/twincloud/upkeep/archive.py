"""The task that moves old days into the archive, in steps of about a second.

    a ripe day ─▶ draft ─▶ signal by signal into a file ─▶ sent ─▶ read back ─▶ finish: kept, hours removed
                    ▲                                        │ broken off: the next attempt goes on
                    └────────────────────────────────────────┘

Nothing is removed here before the object was read back whole and its footer says the same.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

import structlog

from twincloud.archive.objects import ObjectStore, verify, whole
from twincloud.archive.runs import Written
from twincloud.storage.contract_archives import Archives
from twincloud.storage.records_archives import Archive, Draft, FileState
from twincloud.upkeep.task import Stepwise
from twinmodel.clock import Clock
from twinmodel.errors import ConflictError, StorageError

DAYS_MAX = 64
LEFTOVERS_MAX = 100
STAGING = ".staging.parquet"

_log = structlog.get_logger("twincloud.archive")


class ArchiveTask(Stepwise):
    """See `Task`; one of a process.

    Args:
        store: hours, and the table of archives.
        objects: where files go.
        staging: local folder for the file in the making; it holds one at a time.
        age_ns: days that ended so long ago are moved.
        worker: name of this process among replicas.
        clock: measures steps.
    """

    name = "archive"
    period_s = 60.0

    def __init__(
        self, store: Archives, objects: ObjectStore, staging: Path, age_ns: int, worker: str, clock: Clock
    ) -> None:
        super().__init__(clock)
        self._store = store
        self._objects = objects
        self._staging = staging
        self._age_ns = age_ns
        self._worker = worker
        self.moved = 0

    def steps(self, now_ns: int) -> Iterator[None]:
        """All there is to do now, in small steps."""
        yield from cleaned(self._store, self._objects, now_ns)
        for day in self._store.archive_days(now_ns - self._age_ns, now_ns, DAYS_MAX):
            draft = self._store.begin_archive(day, self._worker, now_ns)
            if draft is not None:
                yield from self._move(draft, now_ns)

    def _move(self, draft: Draft, now_ns: int) -> Iterator[None]:
        # An archive that does not answer is noticed before the work is done, not after.
        self._objects.head(draft.key)
        path = self._staging / f"{draft.worker}{STAGING}"
        try:
            self._staging.mkdir(parents=True, exist_ok=True, mode=0o700)
            for left in self._staging.glob(f"*{STAGING}"):
                left.unlink()  # of a process that was killed: a state directory has one at a time
            written = yield from self._write(draft, path)
            if not written.rows or draft.sha256 not in {"", written.sha256}:
                # The hours changed since an attempt that may have been sent: its key is not used for anything else.
                self._store.leave_archive(draft, FileState.ABANDONED, now_ns)
                return
            self._store.note_upload(draft, sha256=written.sha256, upload=draft.upload)
            yield
            note = partial(self._note, draft, written.sha256)
            yield from self._objects.put(draft.key, path, written.sha256, upload=draft.upload, remember=note)
            yield from verify(self._objects, draft.key, written.size, written.sha256)
            self._check_footer(draft, written)
        except ConflictError as error:
            _log.warning("a key of the archive is taken", key=draft.key, detail=error.message)
            self._store.leave_archive(draft, FileState.FOREIGN, now_ns)
            return
        except OSError as error:
            raise StorageError("STORE_FULL", f"{path}: {error.strerror}", path=str(path)) from error
        finally:
            path.unlink(missing_ok=True)
        yield
        if self._store.finish_archive(draft, written, now_ns):
            self.moved += 1
            _log.info("archived", key=draft.key, samples=written.rows, bytes=written.size)
        else:
            self._store.leave_archive(draft, FileState.ABANDONED, now_ns)
        yield

    def _write(self, draft: Draft, path: Path) -> Generator[None, None, Written]:
        """Makes the file of a day, one signal in memory at a time."""
        from twincloud.archive.parquet import DayFile  # noqa: PLC0415 pyarrow takes 60 MB that few need

        day, date = draft.day, draft.key.rpartition("/")[2][:10]
        about = {"tenant": day.tenant, "site": draft.site, "gateway": draft.gateway, "day": date}
        with DayFile(path, {**about, "generation": draft.generation}) as file:
            for signal in self._store.archive_signals(draft):
                for run in self._store.archive_runs(draft, signal):
                    file.write(run)
                    yield
            return file.finish()

    def _note(self, draft: Draft, sha256: str, upload: str) -> None:
        self._store.note_upload(draft, sha256=sha256, upload=upload)

    def _check_footer(self, draft: Draft, written: Written) -> None:
        from twincloud.archive.parquet import read_footer  # noqa: PLC0415 as above

        footer = read_footer(partial(self._objects.get, draft.key), written.size, draft.key)
        if footer.rows != written.rows or footer.content.num_row_groups != len(written.groups):
            raise StorageError("ARCHIVE_DAMAGED", f"{draft.key} has {footer.rows} samples, {written.rows} were sent")


def cleaned(store: Archives, objects: ObjectStore, now_ns: int) -> Iterator[None]:
    """Deletes files that were superseded or given up, one a step; one whose content is not ours is left alone."""
    for file in store.archive_leftovers(now_ns, LEFTOVERS_MAX):
        if file.sha256 and _is_ours(objects, file):
            objects.delete(file.key)
        store.forget_archive(file)
        yield


def _is_ours(objects: ObjectStore, file: Archive) -> bool:
    """Whether an object may be deleted: what was given up may never have been sent, and its key be another's."""
    if file.state is FileState.SUPERSEDED:
        return True
    head = objects.head(file.key)
    if head is None:
        return False
    try:
        whole(verify(objects, file.key, head.size, file.sha256))
    except StorageError as error:
        if error.reason != "ARCHIVE_DAMAGED":
            raise
        return False
    return True

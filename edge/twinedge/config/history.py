"""Configurations that were in force on this gateway: who brought each, when, why, and what became of it.

STATE/config/0007/site.yaml            as it was read
STATE/config/0007/profiles/V/D/F.yaml  every profile it reached; unchanged ones share their bytes with those before
STATE/config/0007/record.json          see `Record`
STATE/config/in_force.json             the number of the one that runs, and on trial which one was before it
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import structlog

from twinedge.config.source import Reading, Source
from twinedge.files import read_json, write_json
from twinmodel.errors import ConfigError, MissingError, StorageError
from twinmodel.files import storage_error, sync_folder, write_durably
from twinmodel.profile.document import read_text

log = structlog.get_logger(__name__)

KEPT = 50
FOLDER = "config"


@dataclass(frozen=True, slots=True)
class Record:
    """One configuration that was applied.

    Attributes:
        number: grows by one with each.
        at_ns: wall time.
        who, why: as told; who is a person, a token or `agent`.
        origin: `file` (read at the start or by SIGHUP), `control` (a command on the gateway), `directive`
            (the coordinator), `rollback`.
        digest: SHA-256 of all of it, as hex.
        outcome: `applied`, `partly` (see `faults`), `probation`, or `failed`.
        detail: why it failed, or what it is a rollback to.
        path: where site.yaml lies.
        file_digest: digest of what lay at `path` when it was applied; differs of what came from elsewhere.
        faults: parts that were refused.
        directive: id of the directive that brought it.
    """

    number: int
    at_ns: int
    who: str
    why: str
    origin: str
    digest: str
    outcome: str
    detail: str = ""
    path: str = ""
    file_digest: str = ""
    faults: tuple[Mapping[str, Any], ...] = ()
    directive: str = ""


@dataclass(frozen=True, slots=True)
class InForce:
    """Which configuration runs.

    Attributes:
        number: its record.
        fallback: on trial the one that comes back when it fails, else 0.
    """

    number: int
    fallback: int = 0


class History:
    """The configurations of one state directory; all calls block.

    Args:
        state: the agent's state directory.
        kept: how many are kept.
    """

    def __init__(self, state: Path, kept: int = KEPT) -> None:
        self._folder = state / FOLDER
        self._kept = kept

    def records(self) -> list[Record]:
        """All that are kept, oldest first; damaged ones are passed over."""
        return [record for number in self._numbers() if (record := self._record(number)) is not None]

    def get(self, number: int) -> Record:
        """One of them; raises MissingError NOT_FOUND."""
        record = self._record(number)
        if record is None:
            kept = self._numbers()
            there = f"{kept[0]} to {kept[-1]} are kept" if kept else "none is kept"
            raise MissingError("NOT_FOUND", f"no configuration {number}: {there}", hint="see `twinedge config history`")
        return record

    def source(self, record: Record) -> Source:
        """What was applied, with the profiles it had then; raises MissingError NOT_FOUND."""
        folder = self._place(record.number)
        try:
            text = read_text(folder / "site.yaml")
        except ConfigError as gone:
            raise MissingError("NOT_FOUND", f"configuration {record.number}: {gone.message}") from gone
        return Source(text, Path(record.path), folder / "profiles")

    def in_force(self) -> InForce | None:
        """Which one runs, None before the first."""
        document = read_json(self._folder / "in_force.json")
        try:
            assert isinstance(document, dict), "no object"
            return InForce(int(document["number"]), int(document["fallback"]))
        except (AssertionError, KeyError, TypeError, ValueError):
            return None

    def put_in_force(self, in_force: InForce) -> None:
        """Keeps durably which one runs; raises StorageError."""
        write_json(self._folder / "in_force.json", asdict(in_force))

    def add(self, record: Record, reading: Reading, *, in_force: bool = True) -> Record:
        """Keeps a configuration under the next number.

        Args:
            record: what is told of it; its number is given here.
            reading: what was read.
            in_force: whether it runs.

        Raises:
            StorageError: nothing was kept.
        """
        numbers = self._numbers()
        made = replace(record, number=numbers[-1] + 1 if numbers else 1)
        draft = self._folder / f".new-{made.number:04d}"
        try:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True, mode=0o700)
            before = self._place(numbers[-1]) / "profiles" if numbers else None
            for name, text in reading.profiles.items():
                _keep(draft / "profiles" / f"{name}.yaml", text, before / f"{name}.yaml" if before else None)
            write_durably(draft / "site.yaml", reading.source.text.encode())
            write_json(draft / "record.json", asdict(made))
            draft.rename(self._place(made.number))
            sync_folder(self._folder)
        except (OSError, StorageError) as error:
            shutil.rmtree(draft, ignore_errors=True)
            raise error if isinstance(error, StorageError) else storage_error(error, draft) from error
        if in_force:
            self.put_in_force(InForce(made.number))
        self._prune({made.number})
        return made

    def settle(self, record: Record) -> None:
        """Keeps what became of a configuration; raises StorageError."""
        write_json(self._place(record.number) / "record.json", asdict(record))

    def _place(self, number: int) -> Path:
        return self._folder / f"{number:04d}"

    def _numbers(self) -> list[int]:
        with suppress(OSError):
            return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit())
        return []

    def _record(self, number: int) -> Record | None:
        document = read_json(self._place(number) / "record.json")
        try:
            assert isinstance(document, dict), "no object"
            known = {f.name for f in fields(Record)}
            kept = {name: value for name, value in document.items() if name in known}
            return Record(**kept | {"faults": tuple(kept.get("faults", ()))})
        except (AssertionError, TypeError):
            return None

    def _prune(self, needed: set[int]) -> None:
        in_force = self.in_force()
        if in_force is not None:
            needed |= {in_force.number, in_force.fallback}
        for number in self._too_many(needed):
            shutil.rmtree(self._place(number), ignore_errors=True)

    def _too_many(self, needed: set[int]) -> Iterator[int]:
        numbers = self._numbers()
        yield from (n for n in numbers[: max(len(numbers) - self._kept, 0)] if n not in needed)


def _keep(path: Path, text: str, before: Path | None) -> None:
    """Writes a file, or shares the bytes of the one before it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    content = text.encode()
    with suppress(OSError):
        if before is not None and before.read_bytes() == content:
            os.link(before, path)
            return
    write_durably(path, content)

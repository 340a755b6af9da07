"""The newest steps of a gateway's alarms, for people on site: two files of lines, read beside a running agent or none.

    add ─▶ write ─▶ alarms.jsonl ─ full ─▶ alarms.1.jsonl ─ full ─▶ gone

The record of a step is its sample, which is durable at once; this is a copy to look at. It is not synced to the disk,
so that a power cut may cost the last moment of it, and a disk that refuses costs it what comes meanwhile.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from twinmodel.alarms.records import RECORD_CHARS_MAX, AlarmRecord, decode
from twinmodel.errors import InputError
from twinmodel.files import OWNER_ONLY, storage_error

log = structlog.get_logger(__name__)

FILE: Final = "alarms.jsonl"
BEFORE: Final = "alarms.1.jsonl"
FILE_BYTES_MAX: Final = 1 << 20
"""One file; both hold about 5,000 steps."""
WAITING_MAX: Final = 2000
"""Steps in memory while the disk refuses; the oldest go."""


class Journal:
    """The journal of one running agent.

    Args:
        state: its state directory.
        bytes_max: of one of the two files.
    """

    def __init__(self, state: Path, bytes_max: int = FILE_BYTES_MAX) -> None:
        self._path, self._before, self._bytes_max = state / FILE, state / BEFORE, bytes_max
        self._waiting: deque[str] = deque(maxlen=WAITING_MAX)
        self._refused = False

    @property
    def waits(self) -> bool:
        """Whether something is to be written."""
        return bool(self._waiting)

    def add(self, records: Iterable[str]) -> None:
        """Takes encoded records, oldest first."""
        self._waiting.extend(records)

    async def write(self) -> None:
        """Appends what waits; a disk that refuses is told once, and asked again with the next."""
        lines = self._taken()
        try:
            await asyncio.to_thread(self._append, lines)
        except OSError as error:
            lines += self._taken()
            self._waiting.extend(lines)
            if not self._refused:
                log.warning("journal of alarms is not written", path=str(self._path), detail=str(error))
            self._refused = True
            return
        if self._refused:
            log.info("journal of alarms is written again")
        self._refused = False

    def end(self) -> None:
        """Appends what waits before the agent ends, if the disk lets it. Blocks."""
        with suppress(OSError):
            self._append(self._taken())

    def _taken(self) -> list[str]:
        lines = [*self._waiting]
        self._waiting.clear()
        return lines

    def _append(self, lines: Sequence[str]) -> None:
        text = "".join(f"{line}\n" for line in lines).encode()
        if not text:
            return
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, OWNER_ONLY)
        with os.fdopen(handle, "r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":  # the line on which an earlier agent was cut off ends here
                    text = b"\n" + text
            file.write(text)
        if size + len(text) > self._bytes_max:
            self._path.replace(self._before)


def read_journal(state: Path) -> Iterator[AlarmRecord]:
    """Steps from the newest to the oldest, in the order they were made; lines that are no records are passed over.

    Locks nothing and writes nothing.

    Raises:
        StorageError: STORE_READ_ONLY and the like, it is not ours to read.
    """
    seen: set[int] = set()
    for path in (state / FILE, state / BEFORE):
        try:
            with path.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                # The file that was read first may have become the older one meanwhile.
                content = b"" if inode in seen else file.read(2 * FILE_BYTES_MAX + RECORD_CHARS_MAX)
                seen.add(inode)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise storage_error(error, path) from error
        for line in reversed(content.split(b"\n")):
            if line:
                try:
                    yield decode(line.decode())
                except (InputError, UnicodeDecodeError):
                    continue

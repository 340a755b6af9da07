"""What is known of the commands of this gateway: which ids were met, how they stand, and how often a target was told.

It is the ledger's content in memory: the ledger makes an entry durable, then the book has it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from twinsync.command import Command, CommandState, CommandStep, Value

ENTRIES_MAX = 10_000
KEEP_NS = 30 * 86_400 * 10**9
TELL_MAX = 200
NOT_BEGUN = -1


@dataclass(frozen=True, slots=True)
class Entry:
    """One command and what became of it.

    Attributes:
        command: as it came.
        taken_ns: wall clock when it came.
        begun_ns: boot clock when it began, NOT_BEGUN for one that never did.
        machine: the boot of the machine that clock belongs to, "" where nothing tells.
        state: the newest step.
        before: what the point showed when it began, None where that was not known.
        steps: all steps as (wall clock, name, reason).
        confirmed: whether the coordinator holds the end.
    """

    command: Command
    taken_ns: int
    state: CommandState
    begun_ns: int = NOT_BEGUN
    machine: str = ""
    before: Value = None
    steps: tuple[tuple[int, str, str], ...] = ()
    confirmed: bool = False

    @property
    def begun(self) -> bool:
        """Whether the device may have been told."""
        return self.begun_ns != NOT_BEGUN

    @property
    def ended(self) -> bool:
        """Whether it has an end, be it UNKNOWN."""
        return self.state.step.last

    def at(self, state: CommandState) -> Entry:
        """The entry one step further."""
        step = (state.at_ns, state.step.name, state.reason)
        return replace(self, state=state, steps=(*self.steps, step), confirmed=False)

    def begins(self, boot_ns: int, machine: str, before: Value, at_ns: int) -> Entry:
        """The entry once the device may be told."""
        steps = (*self.steps, (at_ns, "BEGUN", ""))
        return replace(self, begun_ns=boot_ns, machine=machine, before=before, steps=steps)


class Book:
    """Entries by id, oldest first.

    Args:
        entries: what the ledger holds, oldest first.
        machine: the present boot of the machine, "" where nothing tells.
    """

    def __init__(self, entries: Iterable[Entry] = (), machine: str = "") -> None:
        self.machine = machine
        self._entries: OrderedDict[str, Entry] = OrderedDict((e.command.id, e) for e in entries)
        self.session = max((e.command.session for e in self._entries.values()), default=0)

    def get(self, command_id: str) -> Entry | None:
        """What is known of an id."""
        return self._entries.get(command_id)

    def put(self, entry: Entry) -> list[str]:
        """Keeps an entry; returns ids that are forgotten for it, those that never began first."""
        self._entries[entry.command.id] = entry
        self.session = max(self.session, entry.command.session)
        forgotten = []
        while len(self._entries) > ENTRIES_MAX:
            forgotten.append(self._oldest())
            del self._entries[forgotten[-1]]
        return forgotten

    def expired(self, wall_ns: int) -> list[str]:
        """Forgets what ended more than 30 days ago, of earlier sessions alone: a clock that jumps harms nothing."""
        old = [
            name
            for name, e in self._entries.items()
            if e.ended and e.command.session < self.session and wall_ns - e.taken_ns > KEEP_NS
        ]
        for name in old:
            del self._entries[name]
        return old

    def ages_ns(self, target: str, now_ns: int) -> list[int]:
        """How long ago, at least, commands to a target began; of boots before this one the boot clock tells as much."""
        return [
            now_ns - e.begun_ns if self._same_boot(e, now_ns) else now_ns
            for e in self._entries.values()
            if e.begun and e.command.target == target
        ]

    def unfinished(self) -> list[Entry]:
        """What was taken and has no end: the agent ended in between."""
        return [e for e in self._entries.values() if not e.ended]

    def untold(self) -> list[CommandState]:
        """Ends that the coordinator may not have, oldest first; at most the newest `TELL_MAX`."""
        return [e.state for e in self._entries.values() if e.ended and not e.confirmed][-TELL_MAX:]

    def recent(self, count: int) -> Sequence[Entry]:
        """The newest entries, newest first."""
        return [e for e, _ in zip(reversed(self._entries.values()), range(count), strict=False)]

    def __len__(self) -> int:
        return len(self._entries)

    def _oldest(self) -> str:
        return next((n for n, e in self._entries.items() if not e.begun and e.ended), next(iter(self._entries)))

    def _same_boot(self, entry: Entry, now_ns: int) -> bool:
        if entry.machine and self.machine and entry.machine != self.machine:
            return False
        return entry.begun_ns <= now_ns


def refused(command: Command, taken_ns: int, reason: str, detail: str) -> Entry:
    """The entry of a command of which nothing was done."""
    state = CommandState(command.id, CommandStep.FAILED, reason, detail, None, taken_ns)
    return Entry(command, taken_ns, state, steps=((taken_ns, "FAILED", reason),))


def described(entry: Entry) -> dict[str, Any]:
    """One entry as JSON."""
    command, state = entry.command, entry.state
    return {
        "id": command.id,
        "target": command.target,
        "kind": command.kind.name.lower(),
        "arguments": command.arguments,
        "by": command.by,
        "approved_by": list(command.approved_by),
        "session": command.session,
        "taken_ns": entry.taken_ns,
        "step": state.step.name,
        "reason": state.reason,
        "detail": state.detail,
        "read_back": state.read_back,
        "at_ns": state.at_ns,
        "steps": [{"at_ns": at_ns, "step": name, "reason": reason} for at_ns, name, reason in entry.steps],
        "confirmed": entry.confirmed,
    }

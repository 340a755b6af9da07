"""Whether the loops of the agent still do their work: each counts its rounds, and one that stands still is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twinmodel.clock import SECOND_NS

WITHIN_NS = 20 * SECOND_NS
"""A loop goes round some times a second; a compiler beside it, or a card that syncs, may hold it up for seconds."""


@dataclass(slots=True)
class _Seen:
    rounds: int
    since_ns: int


class Liveness:
    """Looks at counters of rounds now and then.

    Args:
        loops: name -> its rounds so far.
        now_ns: boot time of the beginning.
        within_ns: how long a loop may take for one round.
    """

    def __init__(self, loops: Mapping[str, Callable[[], int]], now_ns: int, within_ns: int = WITHIN_NS) -> None:
        self._loops = dict(loops)
        self._within_ns = within_ns
        self._seen = {name: _Seen(rounds(), now_ns) for name, rounds in loops.items()}

    def stuck(self, now_ns: int) -> list[str]:
        """Loops that have not gone round for too long."""
        found = []
        for name, rounds in self._loops.items():
            seen, count = self._seen[name], rounds()
            if count != seen.rounds:
                self._seen[name] = _Seen(count, now_ns)
            elif now_ns - seen.since_ns > self._within_ns:
                found.append(name)
        return found

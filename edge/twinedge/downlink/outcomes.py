"""What became of directives, kept on disk until far newer ones push it out: the coordinator may ask again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from twinedge.files import read_json, set_aside, write_json
from twinsync.directive import DirectiveState, Outcome

OUTCOMES_MAX = 64


class Outcomes:
    """Directive id -> state, oldest first; the file is replaced as one step.

    An outcome is never known to have arrived, so all of them are told in each session: the store takes the same
    outcome twice.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._states = self._read()

    def __len__(self) -> int:
        return len(self._states)

    def get(self, directive: str) -> DirectiveState | None:
        """What became of a directive, None while nothing is known."""
        return self._states.get(directive)

    def states(self) -> tuple[DirectiveState, ...]:
        """All that are kept, oldest first."""
        return tuple(self._states.values())

    def add(self, state: DirectiveState) -> Mapping[str, DirectiveState]:
        """Keeps an outcome in memory and returns what `save` shall write."""
        self._states[state.id] = state
        while len(self._states) > OUTCOMES_MAX:
            del self._states[next(iter(self._states))]
        return dict(self._states)

    def save(self, states: Mapping[str, DirectiveState]) -> None:
        """Writes them; blocking. Raises StorageError."""
        write_json(
            self._path,
            [[s.id, s.outcome.name, s.reason, s.detail, s.running_digest.hex(), s.at_ns] for s in states.values()],
        )

    def _read(self) -> dict[str, DirectiveState]:
        document = read_json(self._path)
        if document is None:
            return {}
        states = {}
        try:
            assert isinstance(document, list), "no list"
            for id_, outcome, reason, detail, running, at_ns in document[-OUTCOMES_MAX:]:
                state = DirectiveState(
                    str(id_), Outcome[outcome], str(reason), str(detail), bytes.fromhex(running), int(at_ns)
                )
                states[state.id] = state
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            set_aside(self._path, str(error))
            return {}
        return states

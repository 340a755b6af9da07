"""Desired things the coordinator sent down and what became of each; they outlive any outage."""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from twinedge.spool.schema import run
from twinsync.directive import Directive, DirectiveKind, DirectiveState, Outcome

_KEPT_MAX = 1000


@dataclass(frozen=True, slots=True)
class Desired:
    """A directive with its state, None while it is open; `reported` once the coordinator was told."""

    directive: Directive
    state: DirectiveState | None
    reported: bool


def put_directive(db: apsw.Connection, directive: Directive) -> None:
    """Stores a directive; one that is known keeps its state, and the coordinator is told it again."""
    values = (
        directive.id,
        int(directive.kind),
        directive.target,
        directive.version,
        directive.digest,
        directive.size,
        directive.name,
        directive.deadline_ns,
    )
    run(
        db,
        "INSERT INTO directives VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, '', '', x'', 0, 0)"
        " ON CONFLICT(id) DO UPDATE SET reported = 0",
        values,
    )
    run(
        db,
        "DELETE FROM directives WHERE id IN"
        " (SELECT id FROM directives WHERE reported = 1 ORDER BY at_ns DESC LIMIT -1 OFFSET ?)",
        (_KEPT_MAX,),
    )


def finish_directive(db: apsw.Connection, state: DirectiveState) -> None:
    """Stores how a directive ended; the first outcome stands."""
    run(
        db,
        "UPDATE directives SET outcome = ?, reason = ?, detail = ?, running_digest = ?, at_ns = ?"
        " WHERE id = ? AND outcome IS NULL",
        (int(state.outcome), state.reason, state.detail, state.running_digest, state.at_ns, state.id),
    )


def report_directive(db: apsw.Connection, directive_id: str) -> None:
    """Remembers that the coordinator was told the outcome."""
    run(db, "UPDATE directives SET reported = 1 WHERE id = ? AND outcome IS NOT NULL", (directive_id,))


def desired_of(db: apsw.Connection) -> list[Desired]:
    """All directives that are kept, by target and growing version."""
    found = []
    for id_, kind, *facts in run(db, "SELECT * FROM directives ORDER BY target, version"):
        outcome, reason, detail, running, at_ns, reported = facts[6:]
        state = None if outcome is None else DirectiveState(id_, Outcome(outcome), reason, detail, running, at_ns)
        found.append(Desired(Directive(id_, DirectiveKind(kind), *facts[:6]), state, bool(reported)))
    return found

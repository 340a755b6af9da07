"""The loss ledger: one line per boot, stream and reason, which sums to every number that was dropped."""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from twinedge.spool.schema import run
from twinmodel.signal import Stream
from twinsync.item import Gap

_ADD = (
    "INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET samples = samples + excluded.samples,"
    " from_ns = min(from_ns, excluded.from_ns), to_ns = max(to_ns, excluded.to_ns), at_ns = excluded.at_ns"
)


@dataclass(frozen=True, slots=True)
class Loss:
    """One line of the loss ledger: what was dropped of a boot and stream for one reason."""

    boot: bytes
    stream: Stream
    reason: str
    samples: int
    from_ns: int
    to_ns: int
    at_ns: int


def count_loss(db: apsw.Connection, boot: bytes, stream: int, gap: Gap, at_ns: int) -> None:
    """Adds a gap."""
    run(db, _ADD, (boot, stream, gap.reason, gap.count, gap.from_ns, gap.to_ns, at_ns))


def losses_of(db: apsw.Connection) -> list[Loss]:
    """All lines, the one that grew last at the end."""
    rows = run(db, "SELECT * FROM ledger ORDER BY at_ns, boot, stream, reason")
    return [Loss(boot, Stream(stream), *rest) for boot, stream, *rest in rows]

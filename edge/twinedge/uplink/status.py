"""What the uplink says about itself, and its two log lines: one when the coordinator is lost, one when it is back."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from twinsync.item import Mark
from twinsync.session import EdgeSession
from twinsync.session.edge import Close
from twinsync.session.messages import Committed, Items, Part, item_bytes, part_bytes

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UplinkStatus:
    """How the uplink stands.

    Attributes:
        connected: whether a session is open.
        session: its fencing token, 0 for none.
        since_ns: wall time of the last change of `connected`.
        last_error: `REASON: sentence` of the newest failure, "" before the first.
        reason: its reason alone.
        needs_operator: no retry will help until a person has acted.
        wait_ns: length of the wait that follows the last failure, 0 while connected.
        ack_ns: boot-clock time from the last item sent into an idle link to its acknowledgement, 0 before the first.
        items_sent, bytes_sent: sent since the start, repetitions included.
        items_acked: acknowledged since the start.
        items_rejected: of these, dead letters.
        reconnects: sessions opened after the first.
        certificate_until_ns: last moment our certificate is valid, 0 when unknown.
        link_bytes_per_s: what the link was measured to carry, 0 before the first measurement.
        link_delay_ns: shortest time from sending to the acknowledgement of receipt, 0 before the first measurement.
        marks: high-water marks of the open session.
    """

    connected: bool
    session: int
    since_ns: int
    last_error: str
    reason: str
    needs_operator: bool
    wait_ns: int
    ack_ns: int
    items_sent: int
    bytes_sent: int
    items_acked: int
    items_rejected: int
    reconnects: int
    certificate_until_ns: int
    link_bytes_per_s: int
    link_delay_ns: int
    marks: tuple[Mark, ...]


class Tally:
    """Counts what the uplink does and notes its changes."""

    def __init__(self, wall_ns: int) -> None:
        self.certificate_until_ns = 0
        self._connected = False
        self._since_ns = wall_ns
        self._ended: Close | None = None
        self._wait_ns = 0
        self._ack_ns = 0
        self._asked_ns: int | None = None
        self._items_sent = 0
        self._bytes_sent = 0
        self._items_acked = 0
        self._items_rejected = 0
        self._sessions = 0

    def found(self, wall_ns: int, address: str) -> None:
        """A session is open."""
        self._sessions += 1
        self._connected, self._since_ns, self._wait_ns = True, wall_ns, 0
        self._asked_ns = None
        _log.info("coordinator reached", address=address)

    def lost(self, ended: Close, wall_ns: int, wait_ns: int) -> None:
        """A session ended or did not open; the same reason in a row is told once."""
        told = not self._connected and self._ended is not None and self._ended.reason == ended.reason
        if not told:
            _log.warning("coordinator lost", reason=ended.reason, detail=ended.detail)
        if self._connected:
            self._since_ns = wall_ns
        self._connected, self._ended, self._wait_ns = False, ended, wait_ns

    def sent(self, message: Items | Part, boot_ns: int) -> None:
        """Items, or a part of one, are about to be written."""
        if isinstance(message, Part):
            self._items_sent += message.offset == 0
            self._bytes_sent += part_bytes(message)
        else:
            self._items_sent += len(message.items)
            self._bytes_sent += sum(item_bytes(item) for item in message.items)
        if self._asked_ns is None:
            self._asked_ns = boot_ns

    def committed(self, message: Committed, landed: int, boot_ns: int) -> None:
        """The coordinator has acknowledged `landed` items that were in flight."""
        self._items_acked += max(landed, 0)
        self._items_rejected += len(message.rejected)
        if landed > 0 and self._asked_ns is not None:
            self._ack_ns, self._asked_ns = boot_ns - self._asked_ns, None
        if message.rejected:
            reasons = sorted({letter.reason for letter in message.rejected})
            _log.warning("coordinator could not read blocks", items=len(message.rejected), reasons=reasons)

    def status(self, machine: EdgeSession) -> UplinkStatus:
        """See `UplinkStatus`."""
        ended = self._ended
        return UplinkStatus(
            self._connected,
            machine.session if self._connected else 0,
            self._since_ns,
            f"{ended.reason}: {ended.detail}" if ended else "",
            ended.reason if ended else "",
            ended is not None and ended.needs_operator and not self._connected,
            self._wait_ns,
            self._ack_ns,
            self._items_sent,
            self._bytes_sent,
            self._items_acked,
            self._items_rejected,
            max(self._sessions - 1, 0),
            self.certificate_until_ns,
            int(machine.pacer.rate.bytes_per_s) if machine.pacer is not None else 0,
            machine.pacer.rate.delay_ns if machine.pacer is not None else 0,
            tuple(Mark(*key, next_seq) for key, next_seq in machine.acked.items()) if self._connected else (),
        )

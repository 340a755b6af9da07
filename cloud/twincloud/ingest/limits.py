"""Bounds of the coordinator's gRPC side."""

from __future__ import annotations

from dataclasses import dataclass, field

from twinmodel.clock import SECOND_NS
from twinsync.session import ServerLimits


@dataclass(frozen=True, slots=True)
class IngestLimits:
    """What one coordinator takes at once.

    Attributes:
        session: patience with one stream.
        window_bytes, window_items: credit of one gateway; room for at least one message.
        pending_bytes_max: received and not yet committed over all gateways; beyond it credit is 0.
        streams_max: sessions at once; further ones are asked to come back later.
        retry_after_ns: what a gateway is told when the store refuses.
        recheck_ns: how often an open stream's certificate is looked at again.
        watch_s: how often the clocks of all sessions are turned.
        beat_s: heartbeats of all gateways gather for this long and are then written in one transaction.
        write_timeout_s: a gateway that reads nothing for this long is cut.
        outbox_max: messages to a gateway that wait; a gateway that lets more pile up is cut.
        fetches_max: artifact downloads at once.
        returns_per_s: gateways a second that are asked to come back after the coordinator has stopped.
    """

    session: ServerLimits = field(default_factory=ServerLimits)
    window_bytes: int = 4 << 20
    window_items: int = 512
    pending_bytes_max: int = 64 << 20
    streams_max: int = 10_000
    retry_after_ns: int = 5 * SECOND_NS
    recheck_ns: int = 5 * SECOND_NS
    watch_s: float = 0.25
    beat_s: float = 1.0
    write_timeout_s: float = 30.0
    outbox_max: int = 1024
    fetches_max: int = 8
    returns_per_s: int = 200

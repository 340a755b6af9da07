"""The records of the store contract: plain, frozen, the same whatever database keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from twinmodel.clock import ClockQuality
from twinmodel.signal import Batch, Stream
from twinsync.command import Commandable
from twinsync.item import Boot, Item, Mark

T = TypeVar("T")


@dataclass(frozen=True, slots=True, order=True)
class GatewayKey:
    """A gateway; the tenant and the gateway come from its certificate alone."""

    tenant: str
    site: str
    gateway: str


@dataclass(frozen=True, slots=True, order=True)
class TwinKey:
    """A twin; its name is unique within its site."""

    tenant: str
    site: str
    twin: str


class Origin(StrEnum):
    """Where a value comes from."""

    MEASURED = "measured"
    ESTIMATED = "estimated"
    PREDICTED = "predicted"
    SUBSTITUTED = "substituted"
    COMMANDED = "commanded"


@dataclass(frozen=True, slots=True)
class Value:
    """The value envelope: no value stands alone.

    Attributes:
        value: float, int, bool or text; None when the quality is bad and nothing was read.
        sigma: standard deviation in `unit`, None for measured values.
        quality: quality code.
        target_ns: predicted values: the time the prediction is for (`t_event_ns` is when it was issued).
        model: `name@version` of the model, "" for measured values.
        model_id: hash of the model, "" for measured values.
        block: id of the block it came in: `boot/stream/first_seq`.
        by: who commanded it, "" for what was not.
    """

    value: float | int | bool | str | None
    unit: str
    quality: int
    t_event_ns: int
    t_received_ns: int
    t_committed_ns: int
    origin: Origin
    sigma: float | None = None
    target_ns: int | None = None
    model: str = ""
    model_id: str = ""
    block: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Property:
    """One property of a twin in its up to three readings, and what the model thinks of it.

    Attributes:
        reported: what counts as its value: the measurement, or what the model puts in its place while that is missing
            (origin SUBSTITUTED, with sigma).
        replaced: the measurement in whose place that stands, None while none is replaced or nothing was measured.
        desired: what people want it to be.
        delta: reported minus desired, in the unit of `desired`; None where one of them is no number.
        differs: whether what is reported is not what is desired, None where one of them is missing.
    """

    name: str
    unit: str
    signal: str
    reported: Value | None = None
    estimated: Value | None = None
    predicted: Value | None = None
    innovation: float | None = None
    drift: float | None = None
    replaced: Value | None = None
    desired: Value | None = None
    delta: float | None = None
    differs: bool | None = None

    @property
    def measured(self) -> Value | None:
        """The newest measurement, whether or not something stands in its place."""
        stands_in = self.reported is not None and self.reported.origin is Origin.SUBSTITUTED
        return self.replaced if stands_in else self.reported


@dataclass(frozen=True, slots=True)
class TwinModel:
    """What should run for a twin and what does; `name@version` and hex digests, "" for none."""

    desired: str
    desired_digest: str
    running: str
    running_digest: str
    tier: str
    directive: str
    outcome: str
    reason: str
    isolation: str = ""


@dataclass(frozen=True, slots=True)
class Twin:
    """A twin as the coordinator knows it.

    Attributes:
        gateway: the one that reports it, "" for a twin that none has told of.
        definition: `name@version` that people gave it, else what the gateway calls it.
        state, run, tags: see `twins.document.Document`.
        record: revision of what people say of it.
    """

    key: TwinKey
    gateway: str
    definition: str
    properties: tuple[Property, ...]
    model: TwinModel
    drifting: bool
    revision: int
    updated_ns: int
    state: str = "active"
    run: str = "edge"
    tags: Mapping[str, str] = field(default_factory=dict)
    record: int = 0


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway as the coordinator knows it."""

    key: GatewayKey
    state: str
    connected: bool
    session: int
    boot: str
    boot_counter: int
    last_seen_ns: int
    clock: ClockQuality
    agent_version: str
    backlog_bytes: int
    backlog_samples: int
    oldest_ns: int
    samples: int
    duplicates_refused: int
    certificate_serial: str
    certificate_until_ns: int
    offset_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Loss:
    """One declared hole of a gateway: a Gap, what was thinned out of blocks, an Outage or a NOT_ACQUIRED interval."""

    gateway: GatewayKey
    kind: str
    reason: str
    boot: str
    stream: Stream
    first_seq: int
    count: int
    from_ns: int
    to_ns: int
    device: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """A run of one role of a property, event time ascending; arrays of shape (n,)."""

    t_ns: NDArray[np.int64]
    value: NDArray[np.generic]
    quality: NDArray[np.uint16]
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """The model that runs for a twin of a gateway, and the cause of its drift, "" for none."""

    twin: str
    digest: bytes
    name: str
    tier: str
    isolation: str = ""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a gateway says of itself when a session opens."""

    boots: tuple[Boot, ...]
    agent_version: str
    clock: ClockQuality
    schemas: tuple[bytes, ...]
    running: tuple[Running, ...]
    certificate_serial: str = ""
    certificate_until_ns: int = 0


@dataclass(frozen=True, slots=True)
class Beat:
    """What a gateway said of itself while its session was open, at server time `at_ns`.

    Attributes:
        offset_ns: what the coordinator's clock is ahead of the gateway's, and the way of the message; None as before.
        commandables: what may be commanded, None where nothing was said of it.
    """

    gateway: GatewayKey
    session: int
    backlog_bytes: int
    backlog_samples: int
    oldest_ns: int
    running: tuple[Running, ...]
    at_ns: int
    offset_ns: int | None = None
    commandables: tuple[Commandable, ...] | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A session granted; `session` is the fencing token, growing per gateway."""

    session: int
    marks: tuple[Mark, ...]
    missing_schemas: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Arrival:
    """An item as it came, decoded outside the transaction.

    Attributes:
        batches: the samples in canonical order, None when the item is no block or is poison.
        poison: reason why a block could not be read; it is kept as a dead letter and the stream advances.
    """

    item: Item
    batches: tuple[Batch, ...] | None = None
    poison: str = ""


@dataclass(frozen=True, slots=True)
class Commit:
    """What one commit did; `nack`: an item came out of order, later ones were not taken; `unreadable` alarm records."""

    marks: tuple[Mark, ...]
    rejected: tuple[tuple[bytes, Stream, int, str], ...] = ()
    nack: Mark | None = None
    samples: int = 0
    twins: tuple[TwinKey, ...] = ()
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A signed model package the coordinator holds."""

    tenant: str
    name: str
    version: str
    digest: str
    model_id: str
    signer: str
    size: int
    created_ns: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Directive:
    """One desired thing of a gateway; `outcome` is "" while it is open."""

    id: str
    gateway: GatewayKey
    kind: str
    target: str
    version: int
    name: str
    digest: str
    size: int
    created_ns: int
    created_by: str
    deadline_ns: int
    outcome: str = ""
    reason: str = ""
    detail: str = ""
    ended_ns: int = 0
    content: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Wish:
    """A coarser period asked of a gateway: of signals of no twin, at most one sample in each `period_ns`.

    Attributes:
        signal: the only signal it is for, "" for all of the stream.
        period_ns: 0 ends the wish of the same stream and signal.
        until_ns: server time at which it ends by itself, 0 for never.
    """

    stream: Stream
    signal: str
    period_ns: int
    until_ns: int
    created_ns: int
    created_by: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A block that could not be read; its bytes are kept."""

    id: int
    gateway: GatewayKey
    boot: str
    stream: Stream
    first_seq: int
    last_seq: int
    reason: str
    received_ns: int
    size: int


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the outbox; `id` grows and is the SSE event id."""

    id: int
    tenant: str
    site: str
    kind: str
    subject: str
    t_ns: int
    body: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request: a token's name, its tenant ("*" for all) and its role."""

    name: str
    tenant: str
    role: str


@dataclass(frozen=True, slots=True)
class Invite:
    """A one-time permission to enrol one gateway."""

    gateway: GatewayKey
    expires_ns: int
    used_ns: int = 0


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing; `next_token` is "" on the last."""

    items: tuple[T, ...]
    next_token: str = ""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """Facts about the store itself."""

    engine: str
    schema: str
    bytes: int
    blocks: int
    samples: int
    dead_letters: int
    facts: Mapping[str, object] = field(default_factory=dict)

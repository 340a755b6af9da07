"""What cloud twins say, as samples of a gateway of their own: the same blocks, commits and history as of any other.

Each site has one gateway `cloud` that no machine may join as. It has one boot for ever; its numbers go on where the
database says, so that a restart, or another replica, repeats none.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twincloud.storage.contract import Arrival, GatewayKey, Hello, Running, Store
from twincloud.storage.records_cloud import CLOUD
from twinmodel.clock import SECOND_NS, ClockQuality
from twinmodel.errors import ConflictError, MissingError
from twinmodel.package.archive import ModelPackage
from twinmodel.quality import GOOD, QualityReason, bad, uncertain
from twinmodel.signal import OUTPUT_ROLES, Batch, Catalogue, Kind, Signal, Stream, TwinBinding
from twinmodel.stride import Strides
from twinsync import block
from twinsync.item import Block, Boot, Item

GATEWAY: Final = CLOUD
EXPONENT: Final = 6
EXPONENT_MAX: Final = 9
SAMPLES_MAX: Final = 20_000
_VERSION: Final = "coordinator"


@dataclass(frozen=True, slots=True)
class Member:
    """A twin that speaks through the gateway; `exponents` by output."""

    twin: str
    definition: str
    package: ModelPackage
    exponents: dict[str, int]


@dataclass(slots=True)
class Voice:
    """The open session of a site's gateway."""

    gateway: GatewayKey
    session: int
    boot: bytes
    next_seq: int
    catalogue: Catalogue


def catalogue_of(members: Sequence[Member]) -> Catalogue:
    """All that the cloud twins of a site say."""
    signals: list[Signal] = []
    bindings = []
    for member in members:
        for port in member.package.outputs:
            for role in OUTPUT_ROLES:
                name, unit = f"{member.twin}/{port.name}#{role}", "" if role == "drift" else port.unit
                exponent = member.exponents.get(port.name, EXPONENT)
                period_ns = member.package.dt_ns
                signals.append(
                    Signal(len(signals), name, Kind.FLOAT, unit, Stream.STATE, exponent=exponent, period_ns=period_ns)
                )
        outputs = tuple(port.name for port in member.package.outputs)
        units = {port.name: port.unit for port in member.package.outputs}
        model = member.package.manifest.id
        bindings.append(TwinBinding(member.twin, member.definition, model, dict.fromkeys(outputs, ""), outputs, units))
    return Catalogue(tuple(signals), tuple(bindings), _time_step_ns(members))


def _time_step_ns(members: Sequence[Member]) -> int:
    """A step that every tick is a multiple of."""
    return int(np.gcd.reduce([SECOND_NS // 1_000, *(member.package.dt_ns for member in members)]))


def open_voice(store: Store, tenant: str, site: str, members: Sequence[Member], now_ns: int) -> Voice:
    """Opens the session of a site's gateway with what its twins say; makes the gateway where it is new.

    Raises:
        ConflictError: ALREADY_EXISTS when a machine has joined under this name.
    """
    gateway = GatewayKey(tenant, site, GATEWAY)
    boot_id = hashlib.sha256(f"{_VERSION}\n{tenant}\n{site}".encode()).digest()[:16]
    try:
        known = store.gateway(gateway)
    except MissingError:
        # An invitation nobody ever hears of, used up at once.
        token_hash = secrets.token_bytes(32)
        store.create_invite(gateway, token_hash, now_ns, now_ns + SECOND_NS)
        store.redeem_invite(token_hash, now_ns)
    else:
        if known.boot not in ("", boot_id.hex()):
            message = f"a machine has joined as gateway {GATEWAY!r} at site {site!r}; twins in the cloud need that name"
            raise ConflictError("ALREADY_EXISTS", message, hint="let the machine join under another name")
    catalogue = catalogue_of(members)
    boot = Boot(boot_id, b"", 1, 0, ClockQuality.SYNCED)
    running = tuple(Running(m.twin, m.package.digest, m.package.manifest.id, "cloud") for m in members)
    hello = Hello((boot,), _VERSION, ClockQuality.SYNCED, (catalogue.digest,), running, "", 0)
    opened = store.open_session(gateway, hello, now_ns)
    store.put_catalogue(gateway, opened.session, catalogue, now_ns)
    next_seq = next((m.next_seq for m in opened.marks if m.boot == boot_id and m.stream is Stream.STATE), 0)
    return Voice(gateway, opened.session, boot_id, next_seq, catalogue)


def batch_of(twin: str, outputs: Sequence[str], said: Strides, catalogue: Catalogue) -> Batch:
    """Every role of every output at every tick, rounded as a gateway rounds; what is not finite is marked."""
    plain = np.where(said.settling, _SETTLING, np.where(said.in_regime, GOOD, _REGIME)).astype(np.uint16)
    columns = (said.estimate, said.sigma, said.prediction, said.innovation, said.drift)
    parts = []
    for place, output in enumerate(outputs):
        for role, column in zip(OUTPUT_ROLES, columns, strict=True):
            signal = catalogue.by_name[f"{twin}/{output}#{role}"]
            x = column[:, place]
            told = ~np.isnan(x) if role == "innovation" else np.ones(len(x), np.bool_)
            value, usable = rounded(x, signal.exponent)
            quality = np.where(usable, plain, _UNUSABLE).astype(np.uint16)
            count = int(np.count_nonzero(told))
            parts.append((np.full(count, signal.id, np.uint32), value[told], quality[told], said.t_ns[told]))
    ids, values, qualities, times = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(times, kind="stable")
    return Batch(Kind.FLOAT, ids[order], values[order], qualities[order], times[order])


def rounded(x: NDArray[np.float64], exponent: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values in steps of 10**-exponent, NaN where they are not finite; and where they are."""
    scale = 10.0**exponent
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = x * scale
    usable = np.isfinite(scaled)
    # Adding 0.0 makes -0.0 the 0.0 that Python's round gives a gateway.
    return np.where(usable, np.rint(np.where(usable, scaled, 0.0)) / scale + 0.0, np.nan), usable


def arrivals_of(voice: Voice, batch: Batch) -> list[Arrival]:
    """A batch as numbered blocks of bounded size."""
    found, seq = [], voice.next_seq
    for start in range(0, len(batch), SAMPLES_MAX):
        part = batch.take(np.arange(start, min(start + SAMPLES_MAX, len(batch))))
        packed = block.encode([part], voice.catalogue)
        content = Block(packed.schema, packed.crc32c, packed.payload, packed.t_min_ns, packed.t_max_ns)
        item = Item(voice.boot, Stream.STATE, seq, seq + len(part) - 1, content)
        seq += len(part)
        found.append(Arrival(item, tuple(block.decode(packed.payload, voice.catalogue))))
    return found


_SETTLING: Final = uncertain(QualityReason.SETTLING)
_REGIME: Final = uncertain(QualityReason.REGIME)
_UNUSABLE: Final = bad(QualityReason.DECODE)

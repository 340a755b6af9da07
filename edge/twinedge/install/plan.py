"""What a configuration will cost: requests and points a second, bytes a day, hours alone, years of a flash card.

    site.yaml ─▶ asking ──────────────────────────────▶ requests/s, load of lines
        └─▶ catalogue ─▶ a window of values, packed ──▶ bytes/sample ─▶ link, spool, flash

Bytes are not looked up in a table: one window of each lane is made up for the very catalogue, every signal walking by
a few of its steps, and packed as it would be. Values that jump take more, constant ones less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from twinedge.config.catalogue import build_catalogue
from twinedge.config.load import LoadedSite
from twinedge.install.asking import BUSY_MAX, Asking, asking_of, busy_lines
from twinedge.lanes import windows_of
from twinedge.spool.forecast import ROW_BYTES
from twinedge.spool.packing import pack
from twinedge.spool.retention import reserve_bytes
from twinmodel.clock import SECOND_NS
from twinmodel.signal import Batch, Catalogue, Kind, Signal, Stream
from twinsync.item import Block

DAY_S = 86_400
YEAR_D = 365.25
COMMIT_DEVICE_BYTES = 42_000
"""What a commit writes to an ext4 disk besides its block, which it writes twice (log and file): as measured."""
_WINDOW_SAMPLES_MAX = 50_000
_EPOCH_NS = 1_700_000_000 * SECOND_NS
_STEPS = (-2, -1, 0, 0, 0, 1, 2)
_PACKAGE_OVERHEAD = 1.05
"""TLS, gRPC and IP around blocks of some kilobytes."""


@dataclass(frozen=True, slots=True)
class LanePlan:
    """One lane of the gateway.

    Attributes:
        stream: its name.
        signals: how many.
        samples_per_s: together, at most.
        window_s: length of a block, and what a power cut may cost.
        bytes_per_sample: of a block of such a window.
        bytes_per_day: on the link and in the spool.
    """

    stream: str
    signals: int
    samples_per_s: float
    window_s: float
    bytes_per_sample: float
    bytes_per_day: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a configuration will cost.

    Attributes:
        devices: per device.
        lines: share of the time of each polled line.
        lanes: per lane.
        link_bytes_per_day: up, with what travels around it.
        link_kbit_per_s: the mean of it.
        spool_bytes: the budget.
        hours_alone: how long the spool takes everything while the coordinator is away.
        device_bytes_per_day: what is written to the disk.
        flash_years: life of a card of `flash_bytes` and `flash_cycles`.
        warnings: what a person should look at.
    """

    devices: Sequence[Asking]
    lines: Mapping[str, float]
    lanes: Sequence[LanePlan]
    link_bytes_per_day: int
    link_kbit_per_s: float
    spool_bytes: int
    hours_alone: float
    device_bytes_per_day: int
    flash_bytes: int
    flash_cycles: int
    flash_years: float
    warnings: Sequence[str]

    @property
    def requests_per_s(self) -> float:
        """Of all polled devices."""
        return sum(d.requests_per_s for d in self.devices)

    @property
    def samples_per_s(self) -> float:
        """Of all devices, at most."""
        return sum(d.samples_per_s for d in self.devices)

    def document(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"requests_per_s": self.requests_per_s, "samples_per_s": self.samples_per_s}


def plan_of(loaded: LoadedSite, *, flash_bytes: int, flash_cycles: int) -> Plan:
    """Plans a site.

    Args:
        loaded: its configuration; raises what `build_catalogue` does.
        flash_bytes: size of the card the spool is written to.
        flash_cycles: how often its cells can be written.
    """
    catalogue = build_catalogue(loaded)
    spool = loaded.site.spool
    windows = windows_of(spool.sync, spool.sync_telemetry)
    lanes = [lane for stream in Stream if (lane := _lane(catalogue, stream, windows[stream])) is not None]
    per_day = sum(lane.bytes_per_day for lane in lanes)
    commits = sum(DAY_S / lane.window_s for lane in lanes)
    device_bytes = round(commits * COMMIT_DEVICE_BYTES + 2 * per_day)
    room = spool.disk - reserve_bytes(spool.disk)
    devices = asking_of(loaded, catalogue)
    lines = busy_lines(devices)
    link = round(per_day * _PACKAGE_OVERHEAD)
    hours = room / per_day * 24 if per_day else 0.0
    return Plan(
        devices,
        lines,
        lanes,
        link,
        link * 8 / DAY_S / 1000,
        spool.disk,
        hours,
        device_bytes,
        flash_bytes,
        flash_cycles,
        flash_bytes * flash_cycles / (device_bytes * YEAR_D) if device_bytes else 0.0,
        tuple(_warnings(devices, lines, hours)),
    )


def _lane(catalogue: Catalogue, stream: Stream, window_ns: int) -> LanePlan | None:
    """A lane with signals that come at regular times; alarms come when they come."""
    signals = [s for s in catalogue.signals if s.stream is stream and s.period_ns > 0]
    if not signals or not window_ns:
        return None
    per_s = sum(SECOND_NS / s.period_ns for s in signals)
    span_ns = max(window_ns, min(s.period_ns for s in signals))
    count, size = _packed(signals, catalogue, span_ns)
    each = size / count
    return LanePlan(
        stream.name.lower(), len(signals), per_s, span_ns / SECOND_NS, round(each, 3), round(each * per_s * DAY_S)
    )


def _packed(signals: Sequence[Signal], catalogue: Catalogue, span_ns: int) -> tuple[int, int]:
    """Samples and bytes of one window, values made up."""
    rng = np.random.default_rng(1)
    batches, left = [], _WINDOW_SAMPLES_MAX
    for signal in signals:
        count = min(max(1, span_ns // signal.period_ns), left)
        left -= count
        if count == 0:
            break
        t_ns = _EPOCH_NS + np.arange(count, dtype=np.int64) * signal.period_ns
        # A poll answers some milliseconds later or sooner.
        t_ns += rng.integers(0, 3, count) * catalogue.time_step_ns
        batches.append(Batch.of(signal.kind, [signal.id] * count, _values(signal, rng, count), [0] * count, t_ns))
    packed = [(samples, block) for samples, block in pack(batches, catalogue) if isinstance(block, Block)]
    return sum(samples for samples, _ in packed), sum(len(block.payload) + ROW_BYTES for _, block in packed)


def _values(signal: Signal, rng: np.random.Generator, count: int) -> list[Any]:
    walk = np.cumsum(rng.choice(_STEPS, count)) + int(rng.integers(100, 10_000))
    if signal.kind is Kind.STRING:
        return ["running"] * count
    if signal.kind is Kind.BOOL:
        return [bool(rng.integers(0, 2))] * count
    if signal.kind is Kind.INT:
        return [int(v) for v in walk]
    return [float(v) * max(signal.step, 1) / 10.0**signal.exponent for v in walk]


def _warnings(devices: Sequence[Asking], lines: Mapping[str, float], hours: float) -> list[str]:
    found = [
        f"{line} is busy {share:.0%} of the time, at most {BUSY_MAX:.0%} is sound: ask less often or use fewer units"
        for line, share in lines.items()
        if share > BUSY_MAX
    ]
    loose = [d for d in devices if d.at_most_once]
    found += [
        f"{d.device}: {d.at_most_once} points come with QoS 0, at most once: what is lost on their way is not known"
        for d in loose
    ]
    if 0 < hours < 24:
        found.append(f"the spool covers {hours:.1f} hours without the coordinator: give it more disk (`spool.disk`)")
    return found

"""What is published: one message a signal, or one a device or twin, each as JSON with quality, time and unit.

.../devices/press/level          {"v": 1.52, "q": "good", "t": "2026-11-22T10:00:00.000000000Z", "unit": "m"}
.../twins/tank-1/level/estimate  {"v": 1.50, "sigma": 0.02, "q": "uncertain", "reason": "SETTLING", ...}
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from twinedge.northbound.layout import MEASURED, Layout
from twinedge.northbound.store import Latest
from twinmodel.clock import SECOND_NS
from twinmodel.quality import QualityClass, QualityReason, class_of
from twinmodel.signal import Kind, Signal

TEXT_MAX = 4_096
_SINGLE_MAX = 3e38
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNFIT = re.compile(r"[+#/\x00-\x1f\x7f]")
_REASONS = {int(r): r.name for r in QualityReason if r}


@dataclass(frozen=True, slots=True)
class Entry:
    """One place in a message.

    Attributes:
        path: keys that lead to it in a message of a group, such as `level`, `estimate`.
        signal: whose newest sample is told.
        sigma: the signal of its standard deviation, for an estimate.
    """

    path: tuple[str, ...]
    signal: Signal
    sigma: Signal | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One topic.

    Attributes:
        topic: all of it.
        entries: what it tells; one with an empty path is the whole message.
        group: device or twin, and its name.
    """

    topic: str
    entries: tuple[Entry, ...]
    group: tuple[str, str]

    @property
    def slots(self) -> list[int]:
        """Numbers of the slots it looks at."""
        return [s.id for e in self.entries for s in (e.signal, e.sigma) if s is not None]


def level_of(name: str) -> str:
    """A name as one level of a topic."""
    return _UNFIT.sub("_", name)


def messages_of(layout: Layout, base: str, shape: str) -> list[Message]:
    """Every topic of a layout, below `base`."""
    made = [m for d, points in layout.devices.items() for m in _of_device(base, shape, d, points)]
    made += [m for t, outputs in layout.twins.items() for m in _of_twin(base, shape, t, outputs)]
    return made


def _of_device(base: str, shape: str, device: str, points: Mapping[str, Signal]) -> Iterator[Message]:
    topic, group = f"{base}/devices/{level_of(device)}", ("device", device)
    if shape == "group":
        yield Message(topic, tuple(Entry((p,), s) for p, s in points.items()), group)
        return
    for point, signal in points.items():
        yield Message(f"{topic}/{level_of(point)}", (Entry((), signal),), group)


def _of_twin(base: str, shape: str, twin: str, outputs: Mapping[str, Mapping[str, Signal]]) -> Iterator[Message]:
    """Estimates tell their sigma with them; measured values stand below their device already."""
    topic, group = f"{base}/twins/{level_of(twin)}", ("twin", twin)
    entries = []
    for output, roles in outputs.items():
        for role, signal in roles.items():
            sigma = roles.get("sigma") if role == "estimate" else None
            if role == "sigma" and "estimate" in roles:
                continue
            if shape == "group":
                entries.append(Entry((output, role), signal, sigma))
            elif role != MEASURED:
                yield Message(f"{topic}/{level_of(output)}/{role}", (Entry((), signal, sigma),), group)
    if entries:
        yield Message(topic, tuple(entries), group)


def payload_of(message: Message, store: Latest) -> bytes | None:
    """The newest of a message as JSON; None while none of it has had a sample."""
    document: dict[str, Any] = {}
    for entry in message.entries:
        told = _told(entry, store)
        if told is None:
            continue
        if not entry.path:
            return _packed(told)
        inner = document
        for key in entry.path[:-1]:
            inner = inner.setdefault(key, {})
        inner[entry.path[-1]] = told
    return _packed(document) if document else None


def _told(entry: Entry, store: Latest) -> dict[str, Any] | None:
    reading = store.reading(entry.signal)
    if reading.t_ns == 0:
        return None
    klass, reason = class_of(reading.quality), _REASONS.get(reading.quality & 0xFF)
    told: dict[str, Any] = {"v": None if klass is QualityClass.BAD else _plain(entry.signal.kind, reading.value)}
    if entry.sigma is not None:
        sigma = store.reading(entry.sigma)
        known = sigma.t_ns and class_of(sigma.quality) is not QualityClass.BAD and klass is not QualityClass.BAD
        told["sigma"] = _plain(Kind.FLOAT, sigma.value) if known else None
    told["q"] = klass.name.lower()
    if reason is not None:
        told["reason"] = reason
    told["t"] = iso(reading.t_ns)
    if entry.signal.unit:
        told["unit"] = entry.signal.unit
    return told


def _plain(kind: Kind, value: Any) -> Any:
    if kind is Kind.STRING:
        return str(value)[:TEXT_MAX]
    if kind is not Kind.FLOAT:
        return value
    return _short(value) if math.isfinite(value) else None


def _short(value: float) -> float:
    """0.146 and not 0.1459999978542328 for a number that came as a float32: the same bits there, for people to read."""
    if abs(value) > _SINGLE_MAX:
        return value
    single = np.float32(value)
    return float(str(single)) if float(single) == value else value


def iso(t_ns: int) -> str:
    """RFC 3339 with nine digits."""
    seconds, rest = divmod(t_ns, SECOND_NS)
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _packed(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

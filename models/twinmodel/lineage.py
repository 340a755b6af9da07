"""What an edge tells of how its estimates came to be, so that anybody can compute them again: checkpoints in a text.

    twin#lineage:  [checkpoint] ── ticks ── [checkpoint] ── ticks ── [checkpoint] ...

A checkpoint is taken between two ticks: at every start, swap, fall-back, new alignment and leap in time, and each ten
minutes. Up to the next one every tick follows the one before by dt, on one model. Which samples a tick saw follows from
a rule (`follows_rule`) and from a few exceptions, told with the checkpoint that ends their span. It holds the seal (the
hash of the estimator's state) of the span it ends, and its trace (the hash of all that its ticks were given), so that
whoever computes a span again can prove every bit: a filter forgets, so that its state alone proves only its end.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgpack
import numpy as np
from numpy.typing import NDArray

from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError
from twinmodel.quality import QualityReason, bad

LINEAGE: Final = "lineage"
"""Role of the signal `twin#lineage`."""
EVERY_NS: Final = 600 * SECOND_NS
"""Most time between two checkpoints, where ticks are not further apart."""
EXCEPTIONS_MAX: Final = 500
"""Samples a checkpoint may name for which the rule is wrong; were there more, its span says so."""
TEXT_MAX: Final = 48 << 10
RAW_MAX: Final = 1 << 20
_VERSION: Final = 2
_REASON: Final = 0xFF
_UNREADABLE: Final = (ValueError, TypeError, KeyError, AttributeError, OverflowError)
_CLOCK: Final = bad(QualityReason.CLOCK)

Passed = tuple[str, int, bool, int]
"""(signal, time, used, count): so many samples of that time, the last ones, were used or not against the rule."""


class Trace:
    """A running hash of what ticks are given: the same for the same bits, however many are told at once."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, t_ns: NDArray[np.int64], u: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        """Ticks with their inputs and measurements, shapes (ticks,), (ticks, m) and (ticks, p)."""
        given = np.concatenate([u, y], axis=1)
        given = np.where(np.isfinite(given), given, np.nan)  # whatever is no number is missing
        self._hash.update(np.concatenate([t_ns[:, None], given.view(np.int64)], axis=1).astype("<i8").tobytes())

    def digest(self) -> bytes:
        """The hash so far."""
        return self._hash.digest()


@dataclass(frozen=True, slots=True)
class Ended:
    """How the ticks before a checkpoint ended.

    Attributes:
        tick_ns: the last one.
        seal: hash of the estimator's state after it, empty when it failed in that tick.
        passed: samples for which the rule is wrong; those ahead of `tick_ns` are told again by a later one.
        complete: False when there were more, or when samples were dropped for want of room.
        foreign: ticks whose published values are another model's: this one failed there in its soak.
        trace: see `Trace`, over all ticks of the span.
    """

    tick_ns: int
    seal: bytes
    passed: tuple[Passed, ...] = ()
    complete: bool = True
    foreign: tuple[int, ...] = ()
    trace: bytes = b""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where an estimator stood between two ticks, and what feeds it.

    Attributes:
        number: counts the checkpoints of the twin since the start of the agent, from 1.
        cause: `start`, `period`, `swap`, `alignment`, `leap`, `catalogue`, or `pause` after ticks without lineage.
        base_ns: of samples up to here only `held` counts.
        next_ns: the first tick after it.
        dt_ns: distance of ticks.
        model: `name@version`.
        digest: SHA-256 of the package file.
        state: see `Estimator.checkpoint`; empty when it is too large to be told.
        inputs, outputs: port -> signal that feeds it.
        limits_ns: signal -> age beyond which it is too old, 0 for none.
        units: signal -> its unit.
        exponents: output -> decimal digits its five signals are published with, in the order of `OUTPUT_ROLES`.
        held: signal -> (time, value) a tick at `base_ns` holds, NaN for one that cannot be used.
        floors_ns: signal -> samples up to this time came before the alignment began.
        ended: the span before, None at the start of the agent.
    """

    number: int
    cause: str
    base_ns: int
    next_ns: int
    dt_ns: int
    model: str
    digest: bytes
    state: bytes
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    limits_ns: Mapping[str, int]
    units: Mapping[str, str]
    exponents: Mapping[str, tuple[int, ...]]
    held: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    floors_ns: Mapping[str, int] = field(default_factory=dict)
    ended: Ended | None = None


def follows_rule(
    t_ns: NDArray[np.int64], quality: NDArray[np.uint16], floors_ns: NDArray[np.int64] | int
) -> NDArray[np.bool_]:
    """The rule: ticks see all samples but those of a wrong time, those from before the floor, and late ones.

    Late are samples that say LATE, and those that a device or broker had kept (BACKFILLED): these are so old that
    hardly any is in time, while a gateway may bring thousands at once.
    """
    reason = quality & _REASON
    late = (reason == int(QualityReason.LATE)) | (reason == int(QualityReason.BACKFILLED))
    return np.asarray(~late & (quality != _CLOCK) & (t_ns > floors_ns))


def lineage_signal(twin: str) -> str:
    """The signal that carries the checkpoints of a twin."""
    return f"{twin}#{LINEAGE}"


def to_text(checkpoint: Checkpoint) -> str:
    """A checkpoint as the value of a signal, at most `TEXT_MAX` characters: what does not fit is left out.

    Its state goes first, which means that nothing can be computed from it; then the exceptions, then all but times.
    """
    c, nothing = checkpoint, replace(checkpoint, state=b"")
    brief = None if c.ended is None else replace(c.ended, passed=(), foreign=(), complete=False)
    bare = replace(nothing, inputs={}, outputs={}, limits_ns={}, units={}, exponents={}, held={}, floors_ns={})
    for one in (c, nothing, replace(nothing, ended=brief)):
        text = _to_text(one)
        if len(text) <= TEXT_MAX:
            return text
    return _to_text(replace(bare, ended=brief))


def _to_text(c: Checkpoint) -> str:
    ended = c.ended
    end = None if ended is None else [
        ended.tick_ns, ended.seal, [list(p) for p in ended.passed], ended.complete, list(ended.foreign), ended.trace
    ]  # fmt: skip
    body = [
        _VERSION, c.number, c.cause, c.base_ns, c.next_ns, c.dt_ns, c.model, c.digest, c.state,
        dict(c.inputs), dict(c.outputs), dict(c.limits_ns), dict(c.units),
        {output: list(digits) for output, digits in c.exponents.items()},
        {signal: list(one) for signal, one in c.held.items()}, dict(c.floors_ns), end,
    ]  # fmt: skip
    return base64.b85encode(zlib.compress(msgpack.packb(body, use_bin_type=True), 9)).decode("ascii")


def of_text(text: str) -> Checkpoint:
    """What `to_text` wrote; raises InputError VALUE_INVALID."""
    try:
        inflate = zlib.decompressobj()
        raw = inflate.decompress(base64.b85decode(text), RAW_MAX)
        if inflate.eof:
            return _checkpoint(msgpack.unpackb(raw, raw=False))
        why: object = "it is torn or too large"
    except (*_UNREADABLE, zlib.error, msgpack.UnpackException) as error:
        why = error
    raise InputError("VALUE_INVALID", f"a checkpoint cannot be read: {why}")


def _checkpoint(body: Any) -> Checkpoint:
    version, *rest = body
    if version != _VERSION:
        raise ValueError(f"version {version} is unknown")
    number, cause, base_ns, next_ns, dt_ns, model, digest, state, *maps, end = rest
    inputs, outputs, limits, units, exponents, held, floors = maps
    ended = None
    if end is not None:
        tick_ns, seal, passed, complete, foreign, trace = end
        ended = Ended(
            int(tick_ns),
            bytes(seal),
            tuple((str(s), int(t), bool(used), int(count)) for s, t, used, count in passed),
            bool(complete),
            tuple(map(int, foreign)),
            bytes(trace),
        )
    if int(dt_ns) <= 0 or int(next_ns) <= int(base_ns):
        raise ValueError("its times contradict each other")
    return Checkpoint(
        number=int(number),
        cause=str(cause),
        base_ns=int(base_ns),
        next_ns=int(next_ns),
        dt_ns=int(dt_ns),
        model=str(model),
        digest=bytes(digest),
        state=bytes(state),
        inputs={str(port): str(signal) for port, signal in inputs.items()},
        outputs={str(port): str(signal) for port, signal in outputs.items()},
        limits_ns={str(signal): int(limit) for signal, limit in limits.items()},
        units={str(signal): str(unit) for signal, unit in units.items()},
        exponents={str(output): tuple(map(int, digits)) for output, digits in exponents.items()},
        held={str(signal): (int(t_ns), float(value)) for signal, (t_ns, value) in held.items()},
        floors_ns={str(signal): int(t_ns) for signal, t_ns in floors.items()},
        ended=ended,
    )

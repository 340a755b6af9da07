"""Twins that run in the coordinator, as the store gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twincloud.storage.records import GatewayKey, TwinKey

CLOUD: Final = "cloud"
"""The gateway of a site through which twins that run in the coordinator speak."""


@dataclass(frozen=True, slots=True, order=True)
class Feed:
    """What feeds a port: a role (`measured`, `estimate`) of a property of a twin of the same tenant."""

    site: str
    twin: str
    prop: str
    role: str


@dataclass(frozen=True, slots=True)
class Wiring:
    """What feeds a model: every input, and those outputs that something measures."""

    inputs: Mapping[str, Feed]
    outputs: Mapping[str, Feed]

    @property
    def feeds(self) -> tuple[Feed, ...]:
        """All of them, each once."""
        return tuple(sorted({*self.inputs.values(), *self.outputs.values()}))


@dataclass(frozen=True, slots=True)
class CloudTwin:
    """A twin that runs in the coordinator.

    Attributes:
        version: counts what people changed.
        model, digest: of the package.
        wait_ns: how long its slowest signal is waited for, in event time.
        since_ns: its first tick is not before.
        tick_ns: its last tick, 0 for none.
        state: checkpoint of the estimator after that tick, empty for none.
        through: the last commit it has seen.
        reached: event time of the newest sample by feed, as far as it has seen.
        ticks: done, those done again included.
        revised: how often late samples made it compute ticks again.
        too_late: late samples from before its oldest checkpoint, which changed nothing.
        reason, detail: why it does not advance, "" when it does.
    """

    key: TwinKey
    version: int
    model: str
    digest: str
    wiring: Wiring
    wait_ns: int
    since_ns: int
    created_by: str
    created_ns: int
    tick_ns: int
    state: bytes
    through: int
    reached: Mapping[Feed, int]
    ticks: int
    revised: int
    too_late: int
    updated_ns: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Fresh:
    """Event times of samples of one signal that were committed lately, shape (n,)."""

    gateway: GatewayKey
    signal: str
    t_ns: NDArray[np.int64]

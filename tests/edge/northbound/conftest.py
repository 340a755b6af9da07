"""What tests of northbound share: a small plant in a store, and what surrounds a part."""

from __future__ import annotations

import random

import pytest

from twinedge.northbound.ports import Surroundings
from twinedge.northbound.store import Latest
from twinmodel.clock import SystemClock
from twinmodel.quality import GOOD
from twinmodel.signal import OUTPUT_ROLES, Batch, Catalogue, Kind, Signal, Stream, TwinBinding

T0 = 1_772_000_000_123_000_000
MEASURED = [
    ("press.level", Kind.FLOAT, "m"),
    ("press.count", Kind.INT, ""),
    ("press.on", Kind.BOOL, ""),
    ("press.name", Kind.STRING, ""),
    ("press.heat", Kind.FLOAT, "degC"),
]


def catalogue_of(*measured, twin="tank-1", first=()):
    """Signals of devices, then those of a twin whose `level` is measured, and what no one is shown."""
    rows = [*first, *(measured or MEASURED)]
    rows += [(f"{twin}/level#{role}", Kind.FLOAT, "" if role == "drift" else "m") for role in OUTPUT_ROLES]
    rows += [(f"{twin}#lineage", Kind.STRING, ""), ("@alarms", Kind.STRING, "")]
    signals = [Signal(n, name, kind, unit, Stream.STATE) for n, (name, kind, unit) in enumerate(rows)]
    properties = {"level": "press.level" if any(r[0] == "press.level" for r in rows) else "", "flow": ""}
    binding = TwinBinding(twin, "tank", "", properties, ("level",), {"level": "m"})
    return Catalogue(tuple(signals), (binding,))


class Plant:
    """A store that tests write to by name."""

    def __init__(self, store):
        self.store = store

    def use(self, catalogue, *parts):
        self.store.use(catalogue)
        for part in parts:
            part.use()

    def tell(self, *samples):
        """Samples (name, value[, quality[, t_ns]]) as one delivery."""
        batches = []
        for name, value, *more in samples:
            signal = self.store.catalogue.by_name[name]
            quality, t_ns = [*more, GOOD, T0][:2] if not more else [*more, T0][:2]
            batches.append(Batch.of(signal.kind, [signal.id], [value], [quality], [t_ns]))
        self.store.see(batches)


@pytest.fixture
def plant():
    made = Plant(Latest())
    made.use(catalogue_of())
    return made


def surroundings(folder, store, clock=None):
    return Surroundings(
        site="plant-a",
        gateway="gw-1",
        folder=folder,
        state_dir=folder / "state",
        ranges={"press.level": (0.0, 2.0)},
        store=store,
        clock=clock or SystemClock(),
        random=random.Random(5),
        version="1.2.3",
    )


@pytest.fixture
def around(tmp_path, plant):
    return surroundings(tmp_path, plant.store)

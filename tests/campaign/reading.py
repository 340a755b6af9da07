"""Reads what a coordinator's database or a gateway's spool holds, item by item, for the judge."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.campaign.history import NAMES, NOTHING, Held, Lane, Samples
from twincloud.storage.packing import unpack_catalogue
from twincloud.twins.state import FUTURE_NS, Origin, Reading, fold, signals_of, state_hash
from twinmodel.signal import Batch, Catalogue
from twinsync import block
from twinsync.item import Block, Gap, Item
from twinsync.kept import samples_of

_ITEMS = """
SELECT commit_no, boot_id, stream, first_seq, last_seq, 'block', schema_id, payload, received_ns, '' FROM blocks
    WHERE gateway_id = :gateway
UNION ALL SELECT commit_no, boot_id, stream, first_seq, first_seq + max(count, 1) - 1,
    CASE kind WHEN 'GAP' THEN 'gap' WHEN 'THINNED' THEN 'thinned' ELSE 'record' END, count, x'', 0, reason FROM losses
    WHERE gateway_id = :gateway
UNION ALL SELECT commit_no, boot_id, stream, first_seq, last_seq, 'letter', 0, x'', 0, reason FROM dead_letters
    WHERE gateway_id = :gateway
ORDER BY 1, 2, 3, 4
"""


_INTERVALS = (
    "SELECT gateway, device, to_ns FROM losses JOIN gateways ON gateways.id = losses.gateway_id"
    " WHERE kind = 'NOT_ACQUIRED' ORDER BY losses.id"
)


class Coordinator:
    """A coordinator's database, read beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, tuple[list[Held], Counter[Lane], dict[str, str]]]:
        """Gateway -> items in order of commit, samples lost by its ledger, state hash of each twin by its history."""
        with closing(sqlite3.connect(self._path)) as db:
            catalogues = {key: unpack_catalogue(raw) for key, raw in db.execute("SELECT id, content FROM schemas")}
            boots = {key: (boot, counter) for key, boot, counter in db.execute("SELECT id, boot, counter FROM boots")}
            twins = {
                key: (twin, schema) for key, twin, schema in db.execute("SELECT gateway_id, twin, schema_id FROM twins")
            }
            gateways = db.execute("SELECT id, gateway FROM gateways").fetchall()
            return {name: self._gateway(db, key, catalogues, boots, twins.get(key)) for key, name in gateways}

    def intervals(self) -> dict[str, dict[str, list[int]]]:
        """Gateway -> device -> ends of the times in which it served nothing."""
        found: dict[str, dict[str, list[int]]] = {}
        with closing(sqlite3.connect(self._path)) as db:
            for gateway, device, to_ns in db.execute(_INTERVALS):
                found.setdefault(gateway, {}).setdefault(device, []).append(to_ns)
        return found

    def _gateway(self, db, key: int, catalogues, boots, twin: tuple[str, int] | None):
        items: list[Held] = []
        losses: Counter[Lane] = Counter()
        state: dict[str, list[Reading]] = {}
        thinned: Counter[Lane] = Counter()
        rows = db.execute(_ITEMS, {"gateway": key})
        for _, boot_id, stream, first, last, kind, number, payload, received_ns, reason in rows:
            boot, counter = boots[boot_id]
            lane = (boot, stream)
            if kind in {"gap", "thinned"}:
                losses[lane] += number
            if kind == "thinned":
                thinned[lane] += number
                continue
            samples = NOTHING
            if kind == "block":
                catalogue = catalogues[number]
                batches = block.decode(payload, catalogue)
                samples = samples_in(batches, catalogue)
                origin = Origin(counter, boot, stream, first, received_ns, 0)
                _fold(state, batches, catalogue, origin)
            count = last - first + 1
            lost = count if kind == "gap" else count - len(samples) if kind == "block" else 0
            items.append(Held(lane, first, last, kind, samples, lost, reason))
        return items, losses, _hashes(state, twin, catalogues)


_NUMBERS: dict[bytes, NDArray[np.int32]] = {}


def samples_in(batches: Sequence[Batch], catalogue: Catalogue) -> Samples:
    """Samples in canonical order."""
    numbers = _NUMBERS.get(catalogue.digest)
    if numbers is None:
        found = [NAMES.setdefault(signal.name, len(NAMES)) for signal in catalogue.signals]
        numbers = _NUMBERS[catalogue.digest] = np.array(found, np.int32)
    return Samples.joined(Samples(numbers[b.signal], b.t_ns, b.value.astype(np.float64, copy=False)) for b in batches)


def _fold(state: dict[str, list[Reading]], batches: Sequence[Batch], catalogue: Catalogue, origin: Origin) -> None:
    first_seq = origin.first_seq
    for batch in batches:
        for place in _newest(batch, origin.received_ns + FUTURE_NS):
            signal, t_ns = int(batch.signal[place]), int(batch.t_ns[place])
            value, quality = batch.value[place].item(), int(batch.quality[place])
            fold(state, catalogue.signals[signal].name, Reading(t_ns, first_seq + place, value, quality, origin), 1)
        first_seq += len(batch)


def _newest(batch: Batch, until_ns: int) -> list[int]:
    """The place of the newest sample of each signal, the last one where times are equal: no other changes a state."""
    newest: list[int] = []
    for signal in np.unique(batch.signal).tolist():
        places = np.flatnonzero((batch.signal == signal) & (batch.t_ns <= until_ns))
        if len(places):
            times = batch.t_ns[places]
            newest.append(int(places[np.flatnonzero(times == times.max())[-1]]))
    return newest


def _hashes(state: dict[str, list[Reading]], twin: tuple[str, int] | None, catalogues) -> dict[str, str]:
    """Of the twin that the gateway serves; a twin whose name two gateways claim belongs to one of them."""
    if twin is None:
        return {}
    catalogue = catalogues[twin[1]]
    names = [catalogue.signals[signal].name for signal in signals_of(catalogue)[twin[0]]]
    return {twin[0]: state_hash({n: state[n] for n in names if n in state})}


def held_of(item: Item, catalogues: Mapping[bytes, Catalogue]) -> Held:
    """An item of a session as it would be kept."""
    kind, samples = "record", NOTHING
    if isinstance(item.content, Block):
        block.verify(item.content.payload, item.content.crc32c)
        catalogue = catalogues[item.content.schema]
        kind, samples = "block", samples_in(block.decode(item.content.payload, catalogue), catalogue)
        assert len(samples) == samples_of(item)
    elif isinstance(item.content, Gap):
        kind = "gap"
    lost = item.count - len(samples) if kind != "record" else 0
    return Held((item.boot, int(item.stream)), item.first_seq, item.last_seq, kind, samples, lost)

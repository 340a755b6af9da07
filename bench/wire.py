"""Blocks on `bench.telemetry` beside other ways to pack the same samples; one core, all by turns in one process.

bytes_per_sample_1s, _10s, _60s    payload bytes per sample, blocks of that length
encode_msps, decode_msps           million samples per second, blocks of 60 s; _1s and _10s beside them
small_encode_us_16, _50, _420      one block of so many samples; small_decode_us_* likewise
PEER_bytes_per_sample_*            json, otlp (protobuf), arrow: with zstd; gorilla without qualities
PEER_encode_msps, _decode_msps     the same blocks of 60 s
xz_bytes_per_sample_*              the limit: our columns under xz -9, too slow for any gateway
"""

from __future__ import annotations

import lzma
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from bench.peers import NAMES, Peer, Table, peers
from bench.telemetry import PER_SECOND, Site, site
from twinmodel.signal import Batch, Catalogue
from twinsync import block

LENGTHS_S = (1, 10, 60)
SMALL = (16, 50, 420)
SMALL_REPEATS = 50
Work = Callable[[], object]


def run(*, quick: bool = False) -> Mapping[str, float | None]:
    """Measures and returns the figures by name; None for a peer whose package is missing."""
    source = site(minutes=2 if quick else 10)
    found = peers()
    figures: dict[str, float | None] = {}
    for seconds in LENGTHS_S:
        _sizes(figures, source, seconds, found)
    works: dict[str, tuple[Work, Callable[[float], float]]] = {}
    for seconds in LENGTHS_S:
        _own_works(works, source, seconds)
    for count in SMALL:
        _small_works(works, source, count)
    for name, peer in found.items():
        _peer_works(works, source, name, peer, figures)
    seconds_of = _by_turns({name: work for name, (work, _) in works.items()}, 5 if quick else 12)
    figures |= {name: figure(seconds_of[name]) for name, (_, figure) in works.items()}
    return {name: None if value is None else round(value, 3) for name, value in figures.items()}


def _parts(source: Site, seconds: int) -> list[list[Batch]]:
    size = seconds * PER_SECOND
    return [source.batches(start, start + size) for start in range(0, len(source) - size + 1, size)]


def _sizes(figures: dict[str, float | None], source: Site, seconds: int, found: Mapping[str, Peer | None]) -> None:
    catalogue = source.catalogue
    parts = _parts(source, seconds)
    count = sum(len(batch) for part in parts for batch in part)
    figures[f"bytes_per_sample_{seconds}s"] = sum(len(block.encode(p, catalogue).payload) for p in parts) / count
    # The rest needs no more than a share of the blocks: they are alike.
    parts = parts[:20]
    count = sum(len(batch) for part in parts for batch in part)
    tables = [Table.of(block.canonical(part), catalogue) for part in parts]
    for name in NAMES:
        peer = found[name]
        size = None if peer is None else sum(len(_lossless(peer, table)) for table in tables) / count
        figures[f"{name}_bytes_per_sample_{seconds}s"] = size
    squeezed = sum(len(lzma.compress(block.columns_of(p, catalogue), preset=9)) for p in parts)
    figures[f"xz_bytes_per_sample_{seconds}s"] = squeezed / count


def _lossless(peer: Peer, table: Table) -> bytes:
    """What a peer packs; raises AssertionError when it does not give times and values back."""
    raw = peer.encode(table)
    t_ns, value = peer.decode(table, raw)
    assert np.array_equal(t_ns, table.t_ns), "times differ"
    assert np.array_equal(value, table.value), "values differ"
    return raw


def _own_works(works: dict[str, tuple[Work, Callable[[float], float]]], source: Site, seconds: int) -> None:
    catalogue = source.catalogue
    parts = _parts(source, seconds)[: 60 // seconds * 2]
    packed = [block.encode(part, catalogue) for part in parts]
    rate = partial(_msps, sum(one.count for one in packed))
    suffix = "" if seconds == 60 else f"_{seconds}s"
    works[f"encode_msps{suffix}"] = (partial(_encode_all, parts, catalogue), rate)
    works[f"decode_msps{suffix}"] = (partial(_decode_all, [one.payload for one in packed], catalogue), rate)


def _small_works(works: dict[str, tuple[Work, Callable[[float], float]]], source: Site, count: int) -> None:
    part = source.batches(0, count)
    payload = block.encode(part, source.catalogue).payload
    works[f"small_encode_us_{count}"] = (partial(_encode_all, [part] * SMALL_REPEATS, source.catalogue), _us)
    works[f"small_decode_us_{count}"] = (partial(_decode_all, [payload] * SMALL_REPEATS, source.catalogue), _us)


def _peer_works(
    works: dict[str, tuple[Work, Callable[[float], float]]],
    source: Site,
    name: str,
    peer: Peer | None,
    figures: dict[str, float | None],
) -> None:
    if peer is None:
        figures |= dict.fromkeys((f"{name}_encode_msps", f"{name}_decode_msps"))
        return
    table = Table.of(block.canonical(_parts(source, 60)[0]), source.catalogue)
    raw = peer.encode(table)
    works[f"{name}_encode_msps"] = (partial(peer.encode, table), partial(_msps, len(table)))
    works[f"{name}_decode_msps"] = (partial(peer.decode, table, raw), partial(_msps, len(table)))


def _encode_all(parts: list[list[Batch]], catalogue: Catalogue) -> None:
    for part in parts:
        block.encode(part, catalogue)


def _decode_all(payloads: list[bytes], catalogue: Catalogue) -> None:
    for payload in payloads:
        block.decode(payload, catalogue)


def _msps(count: int, seconds: float) -> float:
    return count / seconds / 1e6


def _us(seconds: float) -> float:
    return seconds / SMALL_REPEATS * 1e6


def _by_turns(works: Mapping[str, Work], rounds: int) -> dict[str, float]:
    """Seconds of one core in the fastest of several rounds for each, by turns: all meet the same neighbours.

    Processor time of all threads, not time of the wall: a busy machine takes the processor away for longer than most
    of these works last.
    """
    best = dict.fromkeys(works, float("inf"))
    for _ in range(rounds):
        for name, work in works.items():
            start = time.process_time()
            work()
            best[name] = min(best[name], time.process_time() - start)
    return best

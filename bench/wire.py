"""Blocks on `bench.telemetry`: bytes per sample at three block lengths, and the speed of the codec on one core.

bytes_per_sample_1s, _10s, _60s   payload bytes per sample
encode_msps, decode_msps          million samples per second, blocks of 60 s; _10s beside them
small_encode_us                   one block of 50 samples
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from bench.telemetry import PER_SECOND, Site, site
from twinsync import block


def run(*, quick: bool = False) -> Mapping[str, float]:
    """Measures and returns the figures by name."""
    source = site(minutes=2 if quick else 10)
    rounds = 3 if quick else 9
    figures: dict[str, float] = {}
    for seconds in (1, 10, 60):
        parts = _parts(source, seconds * PER_SECOND)
        packed = [block.encode(batches, source.catalogue) for batches in parts]
        count = sum(one.count for one in packed)
        figures[f"bytes_per_sample_{seconds}s"] = sum(len(one.payload) for one in packed) / count
        if seconds > 1:
            suffix = "" if seconds == 60 else f"_{seconds}s"
            encode_s = _best(lambda p=parts: [block.encode(b, source.catalogue) for b in p], rounds)
            decode_s = _best(lambda p=packed: [block.decode(b.payload, source.catalogue) for b in p], rounds)
            figures[f"encode_msps{suffix}"] = count / encode_s / 1e6
            figures[f"decode_msps{suffix}"] = count / decode_s / 1e6
    small = source.batches(0, 50)
    figures["small_encode_us"] = 1e4 * _best(
        lambda: [block.encode(small, source.catalogue) for _ in range(100)], rounds
    )
    return {name: round(value, 3) for name, value in figures.items()}


def _parts(source: Site, size: int) -> list[list]:
    return [source.batches(start, start + size) for start in range(0, len(source) - size + 1, size)]


def _best(work: Callable[[], object], rounds: int) -> float:
    """Seconds of the fastest of several rounds: the others met another process."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)

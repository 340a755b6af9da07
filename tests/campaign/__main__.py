"""python -m tests.campaign --layer a --seeds 2000 --first 0: runs seeds and prints what they show as JSON.

With `--into FILE --seconds 3600` it goes on, in one process, where an earlier run into that file has ended.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.campaign.crash import points, run_crash
from tests.campaign.results import Results
from tests.campaign.runs import run_all
from tests.campaign.world import run_seed

LAYERS = {"a": run_seed, "b": run_crash}


CUTS_PER_LIFE = 25


CHUNK = 100
RECOVERIES_MAX = 20_000


def gather(layer: str, path: Path, seconds: float) -> Results:
    """Runs seeds of a layer for so long and adds what they show to a file, chunk by chunk."""
    end_s = time.monotonic() + seconds
    results = Results.read(path)
    while time.monotonic() < end_s:
        first = max(results.seeds, default=-1) + 1
        seeds: Sequence[int] = range(first, first + CHUNK)
        if layer == "b":
            seeds = points(range(first, first + 1), CUTS_PER_LIFE)
        # A chunk is named by its last seed, a life of layer B by its own.
        results.add(first if layer == "b" else seeds[-1], run_all(LAYERS[layer], seeds))
        if len(results.summary.recoveries_ns) > RECOVERIES_MAX:
            results.summary.recoveries_ns = sorted(results.summary.recoveries_ns)[::2]
        results.seeds = results.seeds[-1:]
        results.write(path)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign")
    parser.add_argument("--layer", choices=sorted(LAYERS), default="a")
    parser.add_argument("--seeds", type=int, default=2_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--into", type=Path)
    parser.add_argument("--seconds", type=float, default=3_600.0)
    asked = parser.parse_args()
    if asked.into is not None:
        return 1 if gather(asked.layer, asked.into, asked.seconds).summary.violations else 0
    begun_s = time.process_time()
    seeds: Sequence[int] = range(asked.first, asked.first + asked.seeds)
    if asked.layer == "b":
        seeds = points(range(asked.first, asked.first + -(-asked.seeds // CUTS_PER_LIFE)), CUTS_PER_LIFE)
    summary = run_all(LAYERS[asked.layer], seeds)
    spent_s = time.process_time() - begun_s
    facts = {"layer": asked.layer, "cpu_s": round(spent_s, 1), "seeds_per_cpu_s": round(summary.seeds / spent_s, 1)}
    print(json.dumps(facts | summary.plain(), indent=1))  # noqa: T201 - a command's answer
    return 1 if summary.violations else 0


if __name__ == "__main__":
    sys.exit(main())

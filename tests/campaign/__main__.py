"""python -m tests.campaign --layer a --seeds 2000 --first 0: runs seeds and prints what they show as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

from tests.campaign.crash import points, run_crash
from tests.campaign.runs import run_all
from tests.campaign.world import run_seed

LAYERS = {"a": run_seed, "b": run_crash}


CUTS_PER_LIFE = 25


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign")
    parser.add_argument("--layer", choices=sorted(LAYERS), default="a")
    parser.add_argument("--seeds", type=int, default=2_000)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
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

"""Runs benches by name: `python -m bench NAME... [--quick] [--json]`; `--json` ends in one JSON object per bench."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
from collections.abc import Mapping
from pathlib import Path

# Modules that others build on; everything else in this folder is a bench with `run(*, quick) -> figures`.
_NOT_BENCHES = {"__main__", "telemetry", "fleet", "gorilla", "peers", "served"}


def names() -> list[str]:
    """The benches there are."""
    return sorted({m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)])} - _NOT_BENCHES)


def main() -> None:
    """Runs what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(names())}; all when none is named")
    parser.add_argument("--quick", action="store_true", help="a smaller run, figures less steady")
    parser.add_argument("--json", action="store_true", help="one JSON object per bench, the last line of its output")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(names()))
    if unknown:
        parser.error(f"no bench {', '.join(unknown)}; there are {', '.join(names())}")
    for name in options.names or names():
        figures: Mapping[str, float | None] = importlib.import_module(f"bench.{name}").run(quick=options.quick)
        if options.json:
            print(json.dumps({"bench": name, "figures": dict(figures)}), flush=True)
        else:
            print(name)
            for key, value in figures.items():
                print(f"  {key:<32}{'not installed':>14}" if value is None else f"  {key:<32}{value:>14,.3f}")


if __name__ == "__main__":
    main()

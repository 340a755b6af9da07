"""python -m tests.campaign.report --seconds 3600: runs all layers for so long and writes docs/reliability.md.

Each run goes on with fresh seeds and adds to what stands in `results`; `--seconds 0` only writes the page from there.

Half of the time goes to the simulation, a quarter to power cuts at I/O calls, the rest to mutants and real processes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import count
from pathlib import Path

from tests.campaign import day, soak
from tests.campaign.brokers import section
from tests.campaign.checker import check
from tests.campaign.crash import points, run_crash
from tests.campaign.faults import ROWS
from tests.campaign.mutants import MUTANTS, planted
from tests.campaign.processes import SITE_S, campaign, ground
from tests.campaign.results import FOLDER, LAYER_C, Results
from tests.campaign.runs import Summary, run_all
from tests.campaign.world import run_seed

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
CHUNK, CUTS_PER_LIFE, MUTANT_SEEDS = 40, 25, 64
CHUNKS_PER_PROCESS = 50
RECOVERIES_MAX = 20_000
LAYER_A, LAYER_B = FOLDER / "layer-a.json", FOLDER / "layer-b.json"
SHARES = {"a": 0.5, "b": 0.25, "c": 0.2}


def simulated(chunk: int) -> Summary:
    """A chunk of layer A."""
    return run_all(run_seed, range(chunk * CHUNK, (chunk + 1) * CHUNK))


def crashed(chunk: int) -> Summary:
    """A chunk of layer B: one life, many cuts."""
    return run_all(run_crash, points(range(chunk, chunk + 1), CUTS_PER_LIFE))


def gathered(path: Path, work: Callable[[int], Summary], size: int, seconds: float) -> Results:
    """What a layer's file holds already and fresh seeds, in chunks of `size`, for so long."""
    results = Results.read(path)
    if seconds > 0:
        first = -(-(max(results.seeds, default=-1) + 1) // size)
        total, last = for_seconds(work, seconds, first)
        results.add((last + 1) * size - 1, total)
        # Seeds come one after the other: the last one says where to go on.
        results.seeds = results.seeds[-1:]
        results.summary.recoveries_ns = results.summary.recoveries_ns[-RECOVERIES_MAX:]
        results.write(path)
    return results


def for_seconds(work: Callable[[int], Summary], seconds: float, first: int = 0) -> tuple[Summary, int]:
    """Chunks in as many processes as there are cores, until the time is over; the last chunk, too."""
    end_s = time.monotonic() + seconds
    total = Summary()
    chunks = count(first)
    last = first + (os.cpu_count() or 1) - 1
    with ProcessPoolExecutor(os.cpu_count(), max_tasks_per_child=CHUNKS_PER_PROCESS) as pool:
        running: set[Future[Summary]] = {pool.submit(work, next(chunks)) for _ in range(os.cpu_count() or 1)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for one in done:
                total.merge(one.result())
                if time.monotonic() < end_s:
                    last = next(chunks)
                    running.add(pool.submit(work, last))
    return total, last


def processes(seconds: float) -> Summary:
    """Layer C, a new site each minute; with what stands in its file already."""
    campaign(max(Results.read(LAYER_C).seeds, default=-1) + 1, seconds, SITE_S, LAYER_C, ground())
    return Results.read(LAYER_C).summary


def caught() -> Iterator[tuple[str, str]]:
    """Each mutant, and which seed shows it by what."""
    for name in MUTANTS:
        with planted(name) as mutant:
            found: list[str] = []
            for seed in range(MUTANT_SEEDS):
                found = [f"seed {seed}, {one.invariant}" for one in check(run_seed(seed, mutant.only))]
                if found:
                    break
        yield name, found[0] if found else "not caught"


def page(parts: dict[str, Summary], mutants: dict[str, str], commit: str, commits: str) -> str:
    """The results in Markdown."""
    a, b, c = parts["a"], parts["b"], parts["c"]
    shown = [f"| {name} | {told} |" for name, told in mutants.items()]
    killed = sum(told != "not caught" for told in mutants.values())
    rows = [f"| {n} | {r.fault} | {r.expected} | {_tests(r.tests)} |" for n, r in ROWS.items()]
    return "\n".join([
        "# Reliability",
        "",
        f"Written by `make campaign`, or `python -m tests.campaign.report`, at commit {commit}. No seed is left out; a",
        "failing one would stand below.",
        "",
        "| layer | runs | samples promised | lost | twice | declared by a full disk | violations |",
        "|---|--:|--:|--:|--:|--:|--:|",
        _line("A simulation, virtual time", a), _line("B power cuts at I/O calls", b), _line("C real processes", c),
        "",
        f"A: {a.seeds} seeds, at {commits}; B: {b.seeds} cuts, {CUTS_PER_LIFE} of each life; C: {c.seeds} sites.",
        "`python -m tests.campaign --layer a --first SEED --seeds 1` repeats one of A byte for byte.",
        "",
        f"Of n power cuts without a loss, the chance of a loss at the next one is below 3/n with 95 %: {_bound(b, c)}.",
        "",
        "## What a run is",
        "",
        "A: spool, uplink, session, servicer, writer and store of production on one thread; gRPC, threads and time",
        "are simulated. All four policies of a full disk. B: production's spool on a file system layer that loses,",
        "tears and garbles what was not synced. C: `twincloud serve` and four to eight gateways over mTLS, all of them",
        "on ext4 in files of their own whose power goes by FS_IOC_SHUTDOWN once the machine is halted: that loses what",
        "was not synced, and knows no drive that lies. Links are network namespaces with nft and tbf. A gateway is",
        "production's spool and uplink, fed without drivers and models; each third site knows clones and old images.",
        "",
        "One judge for all: nothing promised is lost (L), nothing is stored twice (D), every lane in its order (O),",
        "every hole is covered by one record and the ledgers sum to it (G), state is the fold of history (S), drained",
        "after healing (T), within bounds (B), no sound item among dead letters (P), no part fails (F). Two machines",
        "that run on from one live snapshot share their boot and are not simulated; they fence one another. Nor is a",
        "disk copied while a sync on it has just failed: what arrived all the same and was promised to nobody may come",
        "with the copy, under numbers that the original gives again, and whichever of the two is sent first stands.",
        "Also simulated: disks that are full, read-only or fail to sync and heal, a coordinator whose disk refuses,",
        "devices that are away (NOT_ACQUIRED), agents paused for a minute, certificates that end, stolen keys that are",
        "revoked, suspended gateways. Directives are not simulated: their tests are tests/edge/downlink and",
        "tests/contract. Drivers and models have campaigns of their own.",
        "",
        "## Faults that came",
        "",
        "| fault | A | B | C |",
        "|---|--:|--:|--:|",
        *_fault_lines(a.faults, b.faults, c.faults),
        "",
        "Recovery, from the end of all faults to the last commit; waits of fenced and forked gateways included:",
        "",
        *[f"- {name}: {_times(part)}" for name, part in (("A, virtual", a), ("C", c)) if part.recoveries_ns],
        "",
        *section(c),
        *soak.section(),
        *day.section(),
        "## Planted mistakes",
        "",
        f"{killed} of {len(mutants)} are caught; the letter is the invariant that shows them.",
        "",
        "| mistake | first caught by |",
        "|---|---|",
        *shown,
        "",
        "## Rows of the plan's faults",
        "",
        "| # | fault | what happens | shown by |",
        "|--:|---|---|---|",
        *rows,
        "",
    ]) + _violations(parts)  # fmt: skip


def _line(name: str, part: Summary) -> str:
    told = [text[0] for several in part.violations.values() for text in several]
    lost, twice = told.count("L"), told.count("D")
    return f"| {name} | {part.seeds} | {part.samples} | {lost} | {twice} | {part.declared} | {len(told)} |"


def _bound(b: Summary, c: Summary) -> str:
    cuts = {"B": b.seeds, "C": c.faults["power cut"]}
    return ", ".join(f"{name} {3 / n:.2g} ({n} cuts)" for name, n in cuts.items() if n)


def _fault_lines(*parts: Counter[str]) -> Iterable[str]:
    for kind in sorted(set().union(*parts)):
        yield f"| {kind} | " + " | ".join(str(part[kind] or "") for part in parts) + " |"


def _times(part: Summary) -> str:
    times = sorted(part.recoveries_ns)
    return ", ".join(f"p{q} {times[len(times) * q // 100] / 1e9:.1f} s" for q in (50, 95, 99))


def _tests(names: Iterable[str]) -> str:
    return "<br>".join(f"`{name}`" for name in names)


def _violations(parts: dict[str, Summary]) -> str:
    lines = [f"- {n} {s}: {v[0]}" for n, part in parts.items() for s, v in sorted(part.violations.items())]
    return "\n".join(["## Violations", "", *lines, ""]) if lines else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.report")
    parser.add_argument("--seconds", type=float, default=4 * 3600.0)
    parser.add_argument("--page", type=Path, default=PAGE)
    asked = parser.parse_args()
    named = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    mutants = dict(caught())
    simulation = gathered(LAYER_A, simulated, CHUNK, asked.seconds * SHARES["a"])
    parts = {
        "a": simulation.summary,
        "b": gathered(LAYER_B, crashed, 1, asked.seconds * SHARES["b"]).summary,
        "c": processes(asked.seconds * SHARES["c"]) if asked.seconds > 0 else Results.read(LAYER_C).summary,
    }
    commits = ", ".join(simulation.commits[-8:])
    asked.page.write_text(page(parts, mutants, named.stdout.strip() or "unknown", commits))
    return 1 if any(part.violations for part in parts.values()) or "not caught" in mutants.values() else 0


if __name__ == "__main__":
    sys.exit(main())

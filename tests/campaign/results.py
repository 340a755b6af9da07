"""Results of layers that run apart from the others, summed up in files beside this one that the results page reads."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self

from tests.campaign.runs import Summary

FOLDER = Path(__file__).with_name("results")
LAYER_C, BROKERS = FOLDER / "layer-c.json", FOLDER / "brokers.json"


@dataclass(slots=True)
class Results:
    """What sites have shown together.

    Attributes:
        commits: what ran, each commit once, in their order.
        seeds: of each site, in their order.
    """

    commits: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    summary: Summary = field(default_factory=Summary)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Empty when there is no file."""
        if not path.exists():
            return cls()
        found = json.loads(path.read_text())
        summary = Summary()
        for name, value in found["summary"].items():
            kind = type(getattr(summary, name))
            setattr(summary, name, kind({int(k): v for k, v in value.items()} if name == "violations" else value))
        return cls(found["commits"], found["seeds"], summary)

    def add(self, seed: int, one: Summary) -> None:
        """One site more."""
        self.seeds.append(seed)
        self.summary.merge(one)
        commit = commit_now()
        if commit not in self.commits:
            self.commits.append(commit)

    def write(self, path: Path) -> None:
        """In the place of what stands there."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".new")
        summary = {one.name: getattr(self.summary, one.name) for one in fields(Summary)}
        plain = {"commits": self.commits, "seeds": self.seeds, "summary": summary}
        beside.write_text(json.dumps(plain) + "\n")
        beside.rename(path)


def commit_now() -> str:
    """The commit that runs: of a copy without history, what its file COMMIT says."""
    root = Path(__file__).resolve().parents[2]
    if (root / "COMMIT").exists():
        return (root / "COMMIT").read_text().strip()
    named = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    )
    return named.stdout.strip() or "unknown"

"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from twinmodel.clock import Clock


class Verdict(Enum):
    """How a thing stands."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look at one thing found.

    Attributes:
        check: the thing.
        verdict: how it stands; BAD makes the exit code 3.
        detail: what was found, with numbers.
        hint: what to do.
        fix: what `--fix` would do, "" where a person has to.
    """

    check: str
    verdict: Verdict
    detail: str
    hint: str = ""
    fix: str = ""

    def document(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"verdict": self.verdict.value}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the gateway lies.

    Attributes:
        config: its site.yaml.
        state: its state directory.
        kernel_cache: folder of compiled kernels, None for the default.
        clock: the time.
        root: where units of the system lie.
    """

    config: Path
    state: Path
    kernel_cache: Path | None
    clock: Clock
    root: Path = Path("/")


def ok(check: str, detail: str) -> Finding:
    """A thing that is as it should be."""
    return Finding(check, Verdict.OK, detail)


def warn(check: str, detail: str, hint: str = "", fix: str = "") -> Finding:
    """A thing that works, and that somebody should look at."""
    return Finding(check, Verdict.WARN, detail, hint, fix)


def bad(check: str, detail: str, hint: str = "", fix: str = "") -> Finding:
    """A thing that keeps the gateway from its work."""
    return Finding(check, Verdict.BAD, detail, hint, fix)

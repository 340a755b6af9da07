"""What the parts of northbound have in common: how they are run, told of a catalogue, and say how they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

from twinedge.northbound.store import Latest
from twinmodel.clock import Clock


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every part is given.

    Attributes:
        site, gateway: names under which it serves; an agent without identity is its site's only gateway.
        folder: of site.yaml, where relative paths start.
        state_dir: of the agent.
        ranges: lowest and highest value of measured signals, by name, where the profile has them.
        store: the newest samples.
    """

    site: str
    gateway: str
    folder: Path
    state_dir: Path
    ranges: Mapping[str, tuple[float, float]]
    store: Latest
    clock: Clock
    random: Random
    version: str

    def beside(self, relative: str) -> Path:
        """A path that site.yaml names, made absolute."""
        return (self.folder / relative).resolve()


class Part(Protocol):
    """One way of serving; it never ends because its far end is away, and never raises but for a defect."""

    @property
    def name(self) -> str:
        """`opcua` or `mqtt`."""
        ...

    def use(self) -> None:
        """The store has another catalogue, or the ranges are others."""
        ...

    async def run(self) -> None:
        """Serves until cancelled."""
        ...

    def status(self) -> Mapping[str, Any]:
        """Its section of the status document; `reason` and `error` are "" while it serves."""
        ...

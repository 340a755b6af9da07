"""Joins what is served on site: one store of newest samples, and the parts that site.yaml asks for."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from twinedge.config.load import LoadedSite
from twinedge.keeping import keep
from twinedge.northbound.ports import Part, Surroundings
from twinedge.northbound.store import Latest
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.profile.schema import Strict
from twinmodel.signal import Batch, Catalogue

RESTART_S = 30.0
_PARTS = {
    "opcua": ("twinedge.northbound.opcua", "OpcuaNorthbound"),
    "mqtt": ("twinedge.northbound.mqtt", "MqttNorthbound"),
}


class Northbound:
    """What the agent serves to the site itself; a `Watcher` of the pipeline.

    Nothing it does or suffers reaches the agent: a port that is taken, a broker that is away or a bad certificate
    stand in the status and are tried again.

    Args:
        loaded: the site.
        name: `site/gateway` of the agent, or the site alone.
        state_dir: of the agent.
        version: of the agent, shown to clients.
    """

    def __init__(
        self, loaded: LoadedSite, name: str, *, clock: Clock, random: Random, state_dir: Path, version: str
    ) -> None:
        site, _, gateway = name.partition("/")
        self._store = Latest()
        self._ranges: dict[str, tuple[float, float]] = {}
        self._around = Surroundings(
            site=site,
            gateway=gateway or site,
            folder=loaded.path.parent,
            state_dir=state_dir,
            ranges=self._ranges,
            store=self._store,
            clock=clock,
            random=random,
            version=version,
        )
        self._parts: dict[str, tuple[Strict, Part]] = {}
        self._changed = asyncio.Event()
        self._rates: dict[str, tuple[int, int]] = {}
        self.apply(loaded)

    @property
    def parts(self) -> Mapping[str, Part]:
        """What is served now, by name."""
        return {name: part for name, (_, part) in self._parts.items()}

    def apply(self, loaded: LoadedSite) -> None:
        """Serves as another configuration says; a part about which it says the same keeps its clients."""
        self._ranges.clear()
        self._ranges.update(_ranges(loaded))
        wanted = loaded.site.northbound
        settings = {} if wanted is None else {"opcua": wanted.opcua, "mqtt": wanted.mqtt}
        parts: dict[str, tuple[Strict, Part]] = {}
        for name, section in settings.items():
            if section is None:
                continue
            before = self._parts.get(name)
            if before is not None and before[0] == section:
                parts[name] = before
            else:
                parts[name] = (section, _made(name, section, self._around))
        self._parts = parts
        for _, part in parts.values():
            part.use()
        self._changed.set()

    def use(self, catalogue: Catalogue) -> None:
        """See `Watcher.use`."""
        self._store.use(catalogue)
        for _, part in self._parts.values():
            part.use()

    def see(self, batches: Sequence[Batch]) -> None:
        """See `Watcher.see`; samples are kept even while nothing is served, so that a reload finds them."""
        self._store.see(batches)

    async def run(self) -> None:
        """Runs the parts there are, and those that a reload adds, until cancelled."""
        running: dict[Part, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                wanted = [part for _, part in self._parts.values()]
                gone = [running.pop(part) for part in list(running) if part not in wanted]
                for task in gone:
                    task.cancel()
                if gone:  # their ports are free before others take them
                    await asyncio.wait(gone)
                for part in wanted:
                    if part not in running:
                        name = f"northbound {part.name}"
                        running[part] = group.create_task(keep(name, part.run, RESTART_S), name=name)
                await self._changed.wait()

    def status(self) -> dict[str, Any]:
        """Section `northbound` of the status document: a part each, empty when nothing is served."""
        now_ns, document = self._around.clock.boot_ns(), {}
        for name, (_, part) in self._parts.items():
            section = dict(part.status())
            values, then_ns = self._rates.get(name, (section["values"], now_ns))
            elapsed_s = (now_ns - then_ns) / SECOND_NS
            section["values_per_s"] = round((section["values"] - values) / elapsed_s, 1) if elapsed_s > 0 else 0.0
            self._rates[name] = (section["values"], now_ns)
            document[name] = section
        return document

    def troubles(self) -> list[str]:
        """Reasons of the parts that do not serve."""
        return [reason for _, part in self._parts.values() if (reason := part.status()["reason"])]


def _made(name: str, settings: Any, around: Surroundings) -> Part:
    """A part; its libraries are imported only where it is asked for."""
    module, kind = _PARTS[name]
    found: Callable[..., Part] = getattr(importlib.import_module(module), kind)
    return found(settings, around)


def _ranges(loaded: LoadedSite) -> dict[str, tuple[float, float]]:
    return {
        f"{device}.{name}": point.range
        for device, profile in loaded.profiles.items()
        for name, point in profile.points.items()
        if point.range is not None
    }

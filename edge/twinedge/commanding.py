"""Joins commands to the agent: rules of the site, values and models they hang on, drivers that can write, the uplink.

uplink ─▶ Desk ─▶ driver.writer          lanes ─▶ Readings ─▶ guard          runners ─▶ guard
   ▲        └─▶ ledger
   └── steps
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from twinedge.commands.case import Way
from twinedge.commands.desk import Desk
from twinedge.commands.ledger import Ledger
from twinedge.commands.readings import Readings
from twinedge.commands.rules import rules_of
from twinedge.config.load import LoadedSite
from twinedge.estimate.runner import TwinRunner
from twinedge.models import age_limit_ns
from twinedge.ports import Driver, Writer
from twinedge.uplink.sender import Uplink
from twinmodel.clock import SECOND_NS, Clock
from twinsync.command import CommandState

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
SILENT_NS = 10 * SECOND_NS
SILENT_TICKS = 10
"""A model whose newest estimate is older than ten of its ticks, and ten seconds, does not speak."""


class Commanding:
    """The commands of one agent.

    Args:
        loaded: the site.
        state: folder of the ledger.
        clock: see `Desk`.
        drivers: those that run now.
        runners: models that run now.
        uplink: what steps are told to, None for an agent without one.

    Attributes:
        readings: to be shown what goes into the lanes.
        desk: the `CommandPort` for the uplink.
    """

    def __init__(
        self,
        loaded: LoadedSite,
        state: Path,
        clock: Clock,
        *,
        drivers: Callable[[], Iterable[Driver]],
        runners: Callable[[], Iterable[TwinRunner]],
        uplink: Callable[[], Uplink | None],
    ) -> None:
        self._clock, self._drivers, self._runners, self._uplink = clock, drivers, runners, uplink
        self.readings = Readings(clock, self._twin, self._frozen)
        self.desk = Desk(
            Ledger(state), self.readings, clock, machine=machine_boot(), report=self._report, reach=self._reach
        )
        self.use(loaded)

    def use(self, loaded: LoadedSite) -> None:
        """Goes on by the rules of another configuration; what is open ends by those it was admitted under."""
        said = loaded.site.commands
        self.desk.use(rules_of(loaded, age_limit_ns), queue=said.queue, longest_ns=said.longest)

    async def run(self) -> NoReturn:
        """Carries out commands until cancelled."""
        try:
            await self.desk.run()
        finally:
            self.desk.close()

    def status(self) -> dict[str, Any]:
        """See `Desk.status`."""
        return self.desk.status()

    def _report(self, state: CommandState) -> None:
        uplink = self._uplink()
        if uplink is not None:
            uplink.report(state)

    def _frozen(self) -> str:
        uplink = self._uplink()
        forked = uplink is not None and uplink.status().reason == "IDENTITY_FORK"
        return "another gateway has this identity" if forked else ""

    def _reach(self, device: str) -> Way | None:
        for driver in self._drivers():
            if device in driver.devices:
                writer: Writer | None = getattr(driver, "writer", None)
                return None if writer is None else Way(writer, driver.name)
        return None

    def _twin(self, name: str) -> frozenset[str]:
        runner = next((r for r in self._runners() if r.wiring.twin == name), None)
        estimator = None if runner is None else runner.slot.current()
        if runner is None or estimator is None or runner.last is None:
            return frozenset({"silent"})
        last = runner.last
        states = {
            "silent": self._clock.wall_ns() - last.t_ns > max(SILENT_TICKS * estimator.dt_ns, SILENT_NS),
            "drifting": last.drifting,
            "settling": last.settling,
            "left_regime": bool(last.left) or not last.in_regime,
            "soaking": runner.slot.soaking,
        }
        return frozenset(state for state, holds in states.items() if holds)


def machine_boot() -> str:
    """A text that is another one after each start of the machine, "" where it does not tell."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""

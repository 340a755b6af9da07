"""The models of one gateway: which run at the start, whether one fits its twin, and the signals they add.

modelstore ─▶ first ─▶ slot ◀─ build ◀─ downlink
                └──────▶ catalogue: outputs of the models that run, virtual ones included
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from twinedge.config.catalogue import ModelPorts, build_catalogue
from twinedge.config.load import LoadedSite
from twinedge.config.numbers import Numbered
from twinedge.estimate.runner import TwinRunner, Wiring
from twinedge.modelstore.store import ModelStore
from twinedge.slot import Slot
from twinmodel.errors import ConfigError, ConflictError, TwinError
from twinmodel.estimator import Estimator
from twinmodel.package.archive import ModelPackage
from twinmodel.profile.diff import Need, lacks
from twinmodel.profile.schema import FirmwareProfile, Point
from twinmodel.signal import Catalogue

_log = structlog.get_logger(__name__)

AGE_PERIODS = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What another configuration makes of the models; nothing of it runs yet.

    Attributes:
        loaded: the configuration.
        numbered: its signals.
        wirings: twin -> what its model reads.
        offers: models that start, or take the place of the one that runs.
        running: ports of the models that the catalogue of `numbered` was made of.
    """

    loaded: LoadedSite
    numbered: Numbered
    wirings: Mapping[str, Wiring]
    offers: Mapping[str, Estimator]
    running: Mapping[str, ModelPorts]


class Models:
    """Slots and runners of all twins of a site.

    Attributes:
        slots: twin -> where its model runs; the same object over all configurations.
        runners: what steps them; another list with each configuration.
        numbered: measured signals by number.
    """

    def __init__(self, loaded: LoadedSite, store: ModelStore, kernel_cache: Path | None) -> None:
        self._loaded = loaded
        self._store = store
        self._kernel_cache = kernel_cache
        self.slots: dict[str, Slot] = {name: Slot(name) for name in loaded.site.twins}
        self._built: tuple[Mapping[str, ModelPorts], Catalogue] | None = None
        self.numbered = Numbered.first(self.catalogue())
        self.runners = [TwinRunner(_wiring(loaded, self.numbered, name), slot) for name, slot in self.slots.items()]

    def start(self) -> None:
        """Puts into each slot what should run, or the next best of what can; what cannot is told. Blocks."""
        for name, slot in self.slots.items():
            estimator = self._first(name)
            if estimator is not None:
                slot.offer(estimator)

    def plan(self, loaded: LoadedSite) -> Plan:
        """What another configuration would make of them; blocks, as models may have to be compiled.

        A twin whose model the coordinator names keeps it; where site.yaml names another one, that one takes over.

        Raises:
            ConfigError: when a model that runs does not fit its twin any more.
        """
        running = {name: ports for name, ports in self.running().items() if name in loaded.site.twins}
        numbered = self.numbered.next(build_catalogue(loaded, running))
        before = self._loaded.site.twins
        begun = [
            name
            for name, twin in loaded.site.twins.items()
            if name not in self.slots or (twin.model != before[name].model and name not in self._store.desired)
        ]
        found = {name: self._first(name, loaded) for name in begun}
        offers = {name: estimator for name, estimator in found.items() if estimator is not None}
        return Plan(
            loaded, numbered, {name: _wiring(loaded, numbered, name) for name in loaded.site.twins}, offers, running
        )

    def adopt(self, plan: Plan) -> None:
        """Goes on with a configuration: twins that it leaves as they were keep alignment and account, too."""
        runners = {runner.wiring.twin: runner for runner in self.runners}
        for name in self.slots.keys() - plan.wirings.keys():
            del self.slots[name]
        self.runners = []
        for name, wiring in plan.wirings.items():
            slot = self.slots.setdefault(name, Slot(name))
            runner = runners.get(name)
            self.runners.append(runner if runner and runner.wiring == wiring else TwinRunner(wiring, slot))
            if name in plan.offers:
                try:
                    slot.offer(plan.offers[name])
                except ConflictError as unfit:
                    _log.error("model cannot take over", twin=name, reason=unfit.reason, detail=unfit.message)
        # Its catalogue is the present one as long as the same models run: `catalogue` looks.
        self._loaded, self.numbered, self._built = plan.loaded, plan.numbered, (plan.running, plan.numbered.catalogue)

    def build(self, twin: str, package: ModelPackage, loaded: LoadedSite | None = None) -> Estimator:
        """The estimator of a package for a twin, of the present configuration or another one; blocks.

        Raises:
            ConflictError: MODEL_UNFIT, PARITY_FAILED.
        """
        site = loaded or self._loaded
        try:
            build_catalogue(site, {twin: ports_of(package)})
        except ConfigError as clash:
            raise ConflictError(
                "MODEL_UNFIT", f"{package.name}@{package.version} does not fit {twin}: {clash.message}", twin=twin
            ) from clash
        if apart := _apart(site, twin, package):
            text = f"{package.name}@{package.version} does not fit {twin}: {'; '.join(apart)}"
            raise ConflictError("MODEL_UNFIT", text, twin=twin, misfits=apart)
        return Estimator(package, cache_dir=self._kernel_cache)

    def catalogue(self) -> Catalogue:
        """Signals of the devices and of the models that run now; places of devices' signals are those of `numbered`."""
        running = self.running()
        if self._built is None or self._built[0] != running:
            self._built = running, build_catalogue(self._loaded, running)
        return self._built[1]

    def running(self) -> Mapping[str, ModelPorts]:
        """Ports of the model that runs for each twin that has one."""
        running = {name: slot.current() for name, slot in list(self.slots.items())}
        return {name: ports_of(estimator.package) for name, estimator in running.items() if estimator is not None}

    def _first(self, twin: str, loaded: LoadedSite | None = None) -> Estimator | None:
        site = loaded or self._loaded
        for package in self._store.candidates(twin, site.site.twins[twin].model):
            try:
                return self.build(twin, package, site)
            except TwinError as error:
                _log.error("model cannot run", twin=twin, reason=error.reason, detail=error.message)
        return None


def ports_of(package: ModelPackage) -> ModelPorts:
    """What a package takes and gives, by name and unit."""
    return ModelPorts({p.name: p.unit for p in package.inputs}, {p.name: p.unit for p in package.outputs})


def _apart(loaded: LoadedSite, twin: str, package: ModelPackage) -> tuple[str, ...]:
    """Ports whose limits have nothing in common with the range the profile gives their point, one sentence each."""
    site = loaded.site.twins[twin]
    found = []
    for role, ports, bound in (("input", package.inputs, site.inputs), ("output", package.outputs, site.outputs)):
        for port in ports:
            device, _, point = bound.get(port.name, "").partition(".")
            if device:
                need = Need(port.name, role, port.unit, port.low, port.high)
                found += [x.text for x in lacks(loaded.profiles[device], need, point) if x.reason == "RANGE_APART"]
    return tuple(found)


def age_limit_ns(profile: FirmwareProfile, point: Point) -> int:
    """Age beyond which the last value of a point is no input of a model any more, 0 for none.

    A source that tells changes alone is as fresh as what its driver watches, keep-alives or births and deaths: a
    constant value does not age. What is polled or sent in turns ages by its period.
    """
    if point.age is not None:
        return point.age
    expect_ns = point.expect_every if point.expect_every is not None else profile.defaults.expect_every
    changes_alone = profile.protocol == "opcua" or (point.payload or profile.defaults.payload) == "sparkplug"
    if changes_alone and not expect_ns:
        return 0
    # The driver says STALE when what is expected does not come; a model must not doubt it before.
    return max(AGE_PERIODS * profile.every_ns(point) if not changes_alone else 0, expect_ns or 0)


def _wiring(loaded: LoadedSite, numbered: Numbered, name: str) -> Wiring:
    twin = loaded.site.twins[name]
    inputs = {port: numbered.signals[signal] for port, signal in twin.inputs.items()}
    outputs = {port: numbered.signals[signal] for port, signal in twin.outputs.items()}
    limits, units, names = {}, {}, {}
    for signal in (*inputs.values(), *outputs.values()):
        device, _, point = signal.name.partition(".")
        profile = loaded.profiles[device]
        limits[signal.id] = age_limit_ns(profile, profile.points[point])
        units[signal.id] = signal.unit
        names[signal.id] = signal.name
    return Wiring(
        name,
        {port: s.id for port, s in inputs.items()},
        {port: s.id for port, s in outputs.items()},
        limits,
        units,
        dict.fromkeys(twin.substitute.outputs, twin.substitute.limit_ns),
        names,
    )

"""The models of one gateway: which run at the start, whether one fits its twin, and the signals they add.

modelstore ─▶ first ─▶ slot ◀─ build ◀─ downlink
                └──────▶ catalogue: outputs of the models that run, virtual ones included
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import structlog

from twinedge.config.catalogue import ModelPorts, build_catalogue
from twinedge.config.load import LoadedSite
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


class Models:
    """Slots and runners of all twins of a site."""

    def __init__(self, loaded: LoadedSite, store: ModelStore, kernel_cache: Path | None) -> None:
        self._loaded = loaded
        self._store = store
        self._kernel_cache = kernel_cache
        self.slots: dict[str, Slot] = {name: Slot(name) for name in loaded.site.twins}
        self._built: tuple[Mapping[str, ModelPorts], Catalogue] | None = None
        measured = self.catalogue()
        self.runners = [TwinRunner(_wiring(loaded, measured, name), slot) for name, slot in self.slots.items()]

    def start(self) -> None:
        """Puts into each slot what should run, or the next best of what can; what cannot is told. Blocks."""
        for name, slot in self.slots.items():
            for package in self._store.candidates(name, self._loaded.site.twins[name].model):
                try:
                    slot.offer(self.build(name, package))
                    break
                except TwinError as error:
                    _log.error("model cannot run", twin=name, reason=error.reason, detail=error.message)

    def build(self, twin: str, package: ModelPackage) -> Estimator:
        """The estimator of a package for a twin; raises MODEL_UNFIT, PARITY_FAILED. Blocks."""
        try:
            build_catalogue(self._loaded, {twin: ports_of(package)})
        except ConfigError as clash:
            raise ConflictError(
                "MODEL_UNFIT", f"{package.name}@{package.version} does not fit {twin}: {clash.message}", twin=twin
            ) from clash
        if apart := _apart(self._loaded, twin, package):
            text = f"{package.name}@{package.version} does not fit {twin}: {'; '.join(apart)}"
            raise ConflictError("MODEL_UNFIT", text, twin=twin, misfits=apart)
        return Estimator(package, cache_dir=self._kernel_cache)

    def catalogue(self) -> Catalogue:
        """Signals of the devices and of the models that run now; ids of devices' signals never change."""
        running = self._running()
        if self._built is None or self._built[0] != running:
            self._built = running, build_catalogue(self._loaded, running)
        return self._built[1]

    def _running(self) -> Mapping[str, ModelPorts]:
        running = {name: slot.current() for name, slot in self.slots.items()}
        return {name: ports_of(estimator.package) for name, estimator in running.items() if estimator is not None}


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


def _wiring(loaded: LoadedSite, measured: Catalogue, name: str) -> Wiring:
    twin = loaded.site.twins[name]
    inputs = {port: measured.by_name[signal] for port, signal in twin.inputs.items()}
    outputs = {port: measured.by_name[signal] for port, signal in twin.outputs.items()}
    limits, units = {}, {}
    for signal in (*inputs.values(), *outputs.values()):
        device, _, point = signal.name.partition(".")
        profile = loaded.profiles[device]
        limits[signal.id] = age_limit_ns(profile, profile.points[point])
        units[signal.id] = signal.unit
    return Wiring(
        name,
        {port: s.id for port, s in inputs.items()},
        {port: s.id for port, s in outputs.items()},
        limits,
        units,
        dict.fromkeys(twin.substitute.outputs, twin.substitute.limit_ns),
    )

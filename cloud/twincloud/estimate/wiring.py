"""Who feeds a cloud twin: feeds become signals of gateways, circles and units that do not fit are refused by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from twincloud.replay.frames import AGE_DEFAULT_NS, AGE_PERIODS, Source, Wires
from twincloud.storage.contract import Store, TwinKey
from twincloud.storage.records_cloud import Feed, Wiring
from twincloud.twins.history import signal_of
from twinmodel.errors import ConflictError, InputError, MissingError
from twinmodel.package import archive, signing
from twinmodel.package.archive import ModelPackage, Port
from twinmodel.units import parse

DEPTH_MAX: Final = 8
ROLES: Final = ("measured", "estimate", "prediction", "substitute")


def load_package(store: Store, tenant: str, digest: str) -> ModelPackage:
    """A package of the registry, verified; raises NOT_FOUND, PackageError."""
    trusted = {key: signing.parse_public_key(pem) for key, pem in store.signers(tenant).items()}
    return archive.load(store.artifact(tenant, digest), trusted)


def resolve(store: Store, tenant: str, wiring: Wiring) -> tuple[Wires, Mapping[Feed, Source]]:
    """The signals that feed a model now; a twin that has moved to another gateway is followed.

    Raises:
        MissingError: UNKNOWN_TWIN, NOT_FOUND for a property a twin does not have.
    """
    sources = {feed: _source(store, tenant, feed) for feed in wiring.feeds}
    inputs = {port: sources[feed] for port, feed in wiring.inputs.items()}
    return Wires(inputs, {port: sources[feed] for port, feed in wiring.outputs.items()}), sources


def _source(store: Store, tenant: str, feed: Feed) -> Source:
    gateway, binding, catalogue = store.binding(TwinKey(tenant, feed.site, feed.twin))
    name = signal_of(binding, feed.prop, feed.role)
    signal = catalogue.by_name.get(name)
    if signal is None:
        has = ", ".join(sorted({*binding.properties, *binding.outputs})) or "none"
        message = f"twin {feed.twin!r} has nothing {feed.role} of property {feed.prop!r}"
        raise MissingError("NOT_FOUND", message, hint=f"its properties are {has}")
    return Source(gateway, name, signal.unit, AGE_PERIODS * signal.period_ns or AGE_DEFAULT_NS)


def check(store: Store, key: TwinKey, wiring: Wiring, package: ModelPackage) -> None:
    """Refuses a wiring that cannot run.

    Raises:
        ConflictError: MODEL_UNFIT, TWIN_CYCLE.
        InputError: UNIT_CLASH, LIMIT_EXCEEDED for a chain of twins that is too long.
        MissingError: UNKNOWN_TWIN, NOT_FOUND.
    """
    ports = ((package.inputs, wiring.inputs, "input"), (package.outputs, wiring.outputs, "output"))
    for known, wired, what in ports:
        names = {port.name for port in known}
        unknown = [name for name in wired if name not in names]
        missing = sorted(names - wired.keys()) if what == "input" else []
        if unknown or missing:
            said = f"has no {what} {unknown[0]!r}" if unknown else f"needs its input {missing[0]!r} to be fed"
            hint = f"its {what}s are {', '.join(sorted(names)) or 'none'}"
            raise ConflictError("MODEL_UNFIT", f"{package.manifest.id} {said}", hint=hint)
    _, sources = resolve(store, key.tenant, wiring)
    for known, wired, _ in ports:
        for port in known:
            if port.name in wired:
                _same_dimension(port, wired[port.name], sources[wired[port.name]])
    _refuse_circles(store, key, wiring)


def _same_dimension(port: Port, feed: Feed, source: Source) -> None:
    if source.unit and parse(source.unit).dimension != parse(port.unit).dimension:
        message = f"{port.name} takes {port.unit}, {feed.twin}.{feed.prop} is in {source.unit}"
        raise InputError("UNIT_CLASH", message)


def _refuse_circles(store: Store, key: TwinKey, wiring: Wiring) -> None:
    """Walks from a twin to those it is fed by, and from these to theirs."""
    known = {twin.key: twin.wiring for twin in store.cloud_twins(key.tenant)} | {key: wiring}
    path: list[TwinKey] = []

    def visit(twin: TwinKey) -> None:
        if twin in path:
            circle = " -> ".join(f"{one.site}/{one.twin}" for one in [*path[path.index(twin) :], twin])
            raise ConflictError("TWIN_CYCLE", f"twins feed each other in a circle: {circle}")
        if len(path) > DEPTH_MAX:
            raise InputError("LIMIT_EXCEEDED", f"more than {DEPTH_MAX} twins feed each other one after the other")
        path.append(twin)
        for feeder in _feeders(key.tenant, known.get(twin)):
            visit(feeder)
        path.pop()

    visit(key)


def _feeders(tenant: str, wiring: Wiring | None) -> Iterator[TwinKey]:
    """Twins whose model feeds this one; what a device measures comes from no twin."""
    if wiring is not None:
        yield from sorted({TwinKey(tenant, f.site, f.twin) for f in wiring.feeds if f.role != "measured"}, key=repr)

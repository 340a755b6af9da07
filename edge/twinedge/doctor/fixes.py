"""What can be mended without a person: rights, folders, kernels, the unit. Never the configuration, never data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from twinedge.doctor.finding import Finding, Place
from twinedge.doctor.machine import FOLDER, KERNELS, PERMISSIONS, SECRETS, UNIT
from twinedge.install import unit
from twinmodel.kernel.warmup import warm


def mend(place: Place, found: Iterable[Finding]) -> list[str]:
    """Does what the findings name, once each; a line for each thing done.

    Raises:
        TwinError: what refuses; what was done before it stays done.
    """
    return [_FIXES[name](place) for name in dict.fromkeys(one.fix for one in found if one.fix)]


def _folder(place: Place) -> str:
    place.state.mkdir(parents=True, mode=0o700, exist_ok=True)
    return f"{place.state} made, for this user alone"


def _permissions(place: Place) -> str:
    done = []
    for path in (place.state, *(place.state / name for name in SECRETS)):
        if path.exists() and path.stat().st_mode & 0o077:
            path.chmod(path.stat().st_mode & ~0o077)
            done.append(str(path))
    return f"now for their owner alone: {', '.join(done)}"


def _kernels(place: Place) -> str:
    return f"compiled: {', '.join(warm(place.kernel_cache))}"


def _unit(place: Place) -> str:
    service = unit.Service(unit.this_program(), place.config.absolute(), place.state.absolute())
    return "; ".join(unit.install(service, root=place.root, run=unit.run_command, start=False))


_FIXES: Mapping[str, Callable[[Place], str]] = {
    FOLDER: _folder,
    PERMISSIONS: _permissions,
    KERNELS: _kernels,
    UNIT: _unit,
}

"""Makes a configuration of which parts are wrong one that can run: what does not fit stays as it was before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from twinedge.config.catalogue import ModelPorts, examine_catalogue
from twinedge.config.load import Examined, Fault, LoadedSite
from twinmodel.errors import ConfigError
from twinmodel.profile.document import joined

ROUNDS_MAX = 8


def fitting(
    examined: Examined, before: LoadedSite | None, running: Mapping[str, ModelPorts]
) -> tuple[LoadedSite, tuple[Fault, ...]]:
    """What can run of a configuration, and what is wrong with it.

    A twin that does not fit stays as it was, and if that does not fit either, the devices it reads do: a change must
    not take the inputs of a model that runs.

    Args:
        examined: as it was read.
        before: what runs, None at the start: then everything has to be right.
        running: twin -> ports of the model that runs.

    Raises:
        ConfigError: when nothing of it can run.
    """
    loaded, faults = examined.loaded, list(examined.faults)
    if loaded is None or (before is None and faults):
        raise joined(list(dict.fromkeys(fault.error for fault in faults)))
    for _ in range(ROUNDS_MAX):
        ports = {twin: ports for twin, ports in running.items() if twin in loaded.site.twins}
        _, wrong = examine_catalogue(loaded, ports)
        if not wrong:
            return loaded, tuple(faults)
        if before is None:
            raise joined([fault.error for fault in wrong])
        for fault in wrong:
            if all((known.part, known.name) != (fault.part, fault.name) for known in faults):
                faults.append(fault)
            loaded = _without_change(loaded, before, fault.name)
    raise joined([fault.error for fault in faults])


def _without_change(loaded: LoadedSite, before: LoadedSite, twin: str) -> LoadedSite:
    """The configuration with this twin as it was, or else the devices it reads, or else without it."""
    was = before.site.twins.get(twin)
    if was is not None and was != loaded.site.twins[twin]:
        return replace(loaded, site=loaded.site.model_copy(update={"twins": loaded.site.twins | {twin: was}}))
    mine = loaded.site.twins[twin]
    owners = {
        signal.partition(".")[0]
        for signal in (*mine.inputs.values(), *mine.outputs.values(), *mine.properties.values())
    }
    restored = {
        name: before.site.devices[name]
        for name in owners & before.site.devices.keys()
        if loaded.site.devices.get(name) != before.site.devices[name] or loaded.profiles[name] != before.profiles[name]
    }
    if was is None or not restored:
        twins = {name: other for name, other in loaded.site.twins.items() if name != twin}
        return replace(loaded, site=loaded.site.model_copy(update={"twins": twins}))
    return replace(
        loaded,
        site=loaded.site.model_copy(update={"devices": loaded.site.devices | restored}),
        profiles=dict(loaded.profiles) | {name: before.profiles[name] for name in restored},
        files=dict(loaded.files) | {name: before.files[name] for name in restored},
        entries=dict(loaded.entries) | {name: (name,) for name in restored if name not in loaded.entries},
    )


def refused(faults: tuple[Fault, ...]) -> ConfigError:
    """All faults as one error. `faults` has at least one."""
    return joined(list(dict.fromkeys(fault.error for fault in faults)))

"""Which connections another configuration leaves alone, changes where they are, and stops or begins."""

from __future__ import annotations

from twinedge.config.catalogue import build_catalogue
from twinedge.config.load import LoadedSite
from twinedge.config.numbers import Numbered
from twinedge.drivers.link import same_units
from twinedge.drivers.registry import Group, assignments_of

IN_PLACE = ("modbus",)


def difference(before: LoadedSite, after: LoadedSite) -> dict[str, list[str]]:
    """Connections by what would become of them: `kept`, `changed` in place, `restarted`, `started`, `stopped`.

    Raises:
        ConfigError: a twin of one of them does not fit.
    """
    first = Numbered.first(build_catalogue(before))
    was, will = assignments_of(before, first), assignments_of(after, first.next(build_catalogue(after)))
    found: dict[str, list[str]] = {name: [] for name in ("kept", "changed", "restarted", "started", "stopped")}
    for group, mine in will.items():
        if group not in was:
            word = "started"
        elif was[group] == mine:
            word = "kept"
        else:
            word = "changed" if group[0] in IN_PLACE and same_units(was[group], mine) else "restarted"
        found[word].append(_name(group))
    found["stopped"] = [_name(group) for group in was if group not in will]
    return found


def _name(group: Group) -> str:
    return f"{group[0]} {group[2] if group[0] == 'modbus' else group[1]}"

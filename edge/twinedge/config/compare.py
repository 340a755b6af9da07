"""What is different between two configurations: devices and their tags, twins, rules of alarms, sections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinedge.config.load import LoadedSite
from twinedge.config.schema import Site

_OWN = ("devices", "twins", "alarms")


@dataclass(frozen=True, slots=True)
class Compared:
    """Names of what comes, goes and differs.

    Attributes:
        added, removed, changed: names.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def document(self) -> dict[str, list[str]]:
        """As JSON."""
        return {"added": list(self.added), "removed": list(self.removed), "changed": list(self.changed)}


def compared(before: Mapping[str, Any], after: Mapping[str, Any]) -> Compared:
    """Two sets of named things."""
    return Compared(
        tuple(name for name in after if name not in before),
        tuple(name for name in before if name not in after),
        tuple(name for name in after if name in before and before[name] != after[name]),
    )


def tags_of(before: LoadedSite, after: LoadedSite) -> Compared:
    """Tags of devices that are in both, by `device.point`."""
    found: tuple[dict[str, Any], dict[str, Any]] = {}, {}
    for device, profile in after.profiles.items():
        known = before.profiles.get(device)
        if known is not None and known is not profile:
            found[0].update((f"{device}.{name}", point) for name, point in known.points.items())
            found[1].update((f"{device}.{name}", point) for name, point in profile.points.items())
    return compared(*found)


def devices_of(before: LoadedSite, after: LoadedSite) -> Compared:
    """Devices by name; one whose profile differs has changed."""
    sides = ({n: (d, side.profiles[n]) for n, d in side.site.devices.items()} for side in (before, after))
    return compared(*sides)


def sections_of(before: Site, after: Site) -> tuple[str, ...]:
    """Names of the other sections that differ."""
    return tuple(
        name for name in Site.model_fields if name not in _OWN and getattr(before, name) != getattr(after, name)
    )


def document(before: LoadedSite, after: LoadedSite) -> dict[str, Any]:
    """All of it as JSON."""
    return {
        "devices": devices_of(before, after).document(),
        "tags": tags_of(before, after).document(),
        "twins": compared(before.site.twins, after.site.twins).document(),
        "alarms": compared(before.site.alarms, after.site.alarms).document(),
        "sections": list(sections_of(before.site, after.site)),
    }

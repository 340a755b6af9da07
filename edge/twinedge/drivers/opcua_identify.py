"""Who an OPC UA device is, by the nodes its profile's `identify` names: another device or firmware is not read.

The map of another firmware would give wrong values silently. Nodes of the server's BuildInfo serve as well as those of
the device: `ns=0;i=2264` is its SoftwareVersion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asyncua.client.client import Client

from twinedge.drivers.identity import objection
from twinedge.drivers.link import DeviceLink
from twinedge.drivers.opcua_items import Item
from twinedge.drivers.opcua_monitor import Limits, read_values, resolve
from twinedge.drivers.opcua_write import item_at
from twinmodel.profile.yaml_text import visible

TEXT_MAX = 250


@dataclass(frozen=True, slots=True)
class _Trait:
    """One thing by which a device is known: what `item` says must fit the pattern, or the range of firmware."""

    link: int
    item: Item
    pattern: str
    firmware: bool


class Identity:
    """Asks the devices of one server who they are.

    Args:
        links: those devices.
    """

    def __init__(self, links: Sequence[DeviceLink]) -> None:
        self._links = links
        self._traits = [trait for number, link in enumerate(links) for trait in _traits(number, link)]
        self._objections: dict[int, tuple[str, str] | None] = {}

    def __bool__(self) -> bool:
        return bool(self._traits)

    async def strangers(self, client: Client, limits: Limits) -> Mapping[int, tuple[str, str]]:
        """Devices that are not those of their profiles: number of the link -> reason and text.

        Learns the firmware each device tells. One that does not tell passes, with a fault counted; what was a stranger
        when it last told stays one: a device that restarts, with its server going on, tells nothing for a while.
        """
        if not self._traits:
            return {}
        await resolve(client, limits, [trait.item for trait in self._traits])
        there = [trait for trait in self._traits if trait.item.node is not None]
        values = await read_values(client, limits, [trait.item for trait in there])
        said = {id(trait): _text(value) for trait, value in zip(there, values, strict=True)}
        found: dict[int, tuple[str, str]] = {}
        for number, trait in enumerate(self._traits):
            text, link = said.get(id(trait)), self._links[trait.link]
            if text is None:
                link.fault(f"identify: the server says nothing at {trait.item.text}")
            else:
                self._objections[number] = objection(text, trait.pattern, firmware=trait.firmware)
                link.firmware = text if trait.firmware else link.firmware
            wrong = self._objections.get(number)
            if wrong is not None:
                found.setdefault(trait.link, wrong)
        return found


def _traits(number: int, link: DeviceLink) -> list[_Trait]:
    profile = link.assignment.profile
    if profile.identify is None:
        return []
    root, namespace = link.assignment.device.root.strip("/"), profile.namespace or ""
    found = [_Trait(number, item_at(root, profile.identify.at, namespace), profile.identify.match, False)]
    told = profile.identify.firmware
    if told is not None:
        found.append(_Trait(number, item_at(root, told.at, namespace), profile.firmware, True))
    return found


def _text(value: Any) -> str | None:
    """What a node says of itself; None for nothing, or where it cannot be read."""
    if value.StatusCode is not None and not value.StatusCode.is_good():
        return None
    said = None if value.Value is None else value.Value.Value
    text = getattr(said, "Text", said)
    return None if text is None or isinstance(text, list) else visible(str(text)[:TEXT_MAX])

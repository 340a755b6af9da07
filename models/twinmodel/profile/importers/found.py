"""What an import found: devices with their points, each carried or refused, so that the two add up to the source.

    device = Device("tank", protocol="modbus", base=0)
    device.take("Level", "line 4", lambda: Carried({"Level": {"at": "holding 3", "as": "float32"}}))

`take` counts the point before it is converted; a conversion either returns what it carries or raises InputError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from twinmodel.errors import InputError
from twinmodel.profile.address import parse_address, parse_type

POINTS_MAX = 20_000
NAME_MAX = 100
Fields = dict[str, object]
"""Keys of one of our points, as the profile writes them."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the person who imports says beside the file.

    Attributes:
        base: see each format; None where it was not said.
        counts: how often a repeating group of a SunSpec model stands in the device, by its name.
        protocol, namespace: of a plain CSV.
    """

    base: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    protocol: str = "modbus"
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was read; `digest` is its SHA-256 in hexadecimal."""

    path: Path
    raw: bytes
    digest: str


@dataclass(frozen=True, slots=True)
class Carried:
    """What became of one point of the source: our points by name, and what to know about them."""

    points: Mapping[str, Fields]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """A point that was not carried: `part` its device, `point` and `place` as the source has them."""

    part: str
    point: str
    place: str
    reason: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Note:
    """What is worth knowing about a point that was carried, or about the device where `point` is empty."""

    part: str
    point: str
    text: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A point of the source that was carried, and the names of our points."""

    point: str
    place: str
    names: tuple[str, ...]


class Device:
    """One device of a source on its way to one profile.

    Attributes:
        part: its name within the source, "" where there is only one.
        vendor, device: what the profile is called unless told otherwise.
        header: further keys of the profile: `identify`, `namespace`, `defaults`, `limits`.
        about: what it is, for `source:`.
        found: points of the source so far.
        points: our points, by name.
    """

    def __init__(
        self,
        part: str,
        *,
        protocol: str,
        vendor: str = "imported",
        device: str = "",
        base: int | None = None,
        about: str = "",
        header: Mapping[str, object] | None = None,
    ) -> None:
        self.part = part
        self.protocol = protocol
        self.vendor = slug(vendor) or "imported"
        self.device = slug(device) or slug(part) or "device"
        self.base = base
        self.about = about
        self.header: dict[str, object] = dict(header or {})
        self.found = 0
        self.points: dict[str, Fields] = {}
        self.entries: dict[int, Entry] = {}
        self.refusals: list[Refusal] = []
        self._notes: dict[int, list[Note]] = {}
        self._entry_of: dict[str, int] = {}
        self._names: dict[str, int] = {}
        self._renamed: dict[str, str] = {}
        self._places: dict[tuple[object, ...], str] = {}

    def name(self, text: str) -> str:
        """A name for a point, never given before: `text` without what names may not hold, a number behind a twin.

        `take` notes names that are not the source's own.
        """
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", text)[:NAME_MAX].strip(".-") or "point"
        fresh, number = plain, self._names.get(plain, 0)
        while fresh in self._names:
            number += 1
            fresh = f"{plain}_{number}"
        self._names[plain] = max(number, 1)
        self._names.setdefault(fresh, 1)
        if fresh != plain:
            self._renamed[fresh] = f"{plain} is taken"
        elif plain != text:
            self._renamed[fresh] = "names are letters, digits, _ . -"
        return fresh

    def take(self, point: str, place: str, convert: Callable[[], Carried]) -> None:
        """Counts one point of the source, and carries or refuses it.

        Raises:
            InputError: LIMIT_EXCEEDED, the source has too many points.
        """
        self.found += 1
        if max(self.found, len(self.points)) > POINTS_MAX:
            raise InputError("LIMIT_EXCEEDED", f"more than {POINTS_MAX} points", hint="import parts of it")
        try:
            carried = convert()
            self._claim(carried.points)
        except InputError as wrong:
            self.refuse(point, place, wrong)
            return
        self.points.update(carried.points)
        self.entries[self.found] = Entry(point, place, tuple(carried.points))
        self._entry_of |= dict.fromkeys(carried.points, self.found)
        renamed = [f"is called {n} here: {self._renamed[n]}" for n in carried.points if n in self._renamed]
        self._notes[self.found] = [Note(self.part, point, text) for text in (*carried.notes, *renamed)]

    def refuse(self, point: str, place: str, why: InputError) -> None:
        """Lists a point as refused; it was counted before."""
        self.refusals.append(Refusal(self.part, point, place, why.reason, why.message, why.hint))

    def withdraw(self, name: str, why: InputError) -> None:
        """Refuses the carried point that our point `name` came from, after all."""
        number = self._entry_of[name]
        entry = self.entries.pop(number)
        for gone in entry.names:
            del self.points[gone]
        del self._notes[number]
        self.refuse(entry.point, entry.place, why)

    def say(self, text: str) -> None:
        """Notes something about the whole device."""
        self._notes.setdefault(0, []).append(Note(self.part, "", text))

    @property
    def notes(self) -> list[Note]:
        """What to know about the device and the points it still has."""
        return [note for notes in self._notes.values() for note in notes]

    def _claim(self, points: Mapping[str, Fields]) -> None:
        """Refuses registers that were read as the same type before, and addresses that are none."""
        if self.protocol != "modbus":
            return
        claimed: dict[tuple[object, ...], str] = {}
        for name, fields in points.items():
            try:
                address = parse_address(str(fields["at"]), self.base or 0)
                wire = parse_type(str(fields["as"])) if "as" in fields else None
            except ValueError as wrong:
                raise InputError("VALUE_INVALID", str(wrong)) from None
            place = (address, "" if address.single_bits or address.bit is not None else wire)
            first = self._places.get(place) or claimed.get(place)
            if first is not None:
                raise InputError("POINT_DUPLICATE", f"{fields['at']} is read by {first} already, as the same type")
            claimed[place] = name
        self._places.update(claimed)


def slug(text: str) -> str:
    """`text` as part of a profile's name: lower case, `-` for what such names may not hold."""
    return re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-._")[:60].strip("-._")

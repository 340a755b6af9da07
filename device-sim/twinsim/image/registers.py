"""The registers of one device as its profile has them: read and written by requests, refused everywhere else."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from twinmodel.errors import InputError
from twinmodel.profile.address import Table, parse_address, parse_type
from twinmodel.profile.schema import FirmwareProfile, Point, kind_of
from twinmodel.signal import Kind
from twinsim.image import motion
from twinsim.image.cells import (
    BIT_TABLES,
    BITS_READ_MAX,
    BUSY,
    FAILURE,
    ILLEGAL_ADDRESS,
    ILLEGAL_VALUE,
    TABLES,
    Cells,
    RefusedError,
    pack_bits,
)
from twinsim.image.codec import Codec, Patch, Value, reordered
from twinsim.image.identity import firmware_of, identity_of

_RATE = re.compile(r"(\d+)\s*/\s*(\d*)\s*(s|min|h|d)")
_RATE_S = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


class RegisterImage:
    """What one Modbus device holds.

    Attributes:
        profile: it was made from.
        codecs: point -> how it lies.
        firmware: the text it tells, "" when the profile does not say where.
    """

    def __init__(
        self,
        profile: FirmwareProfile,
        seed: str,
        *,
        settings: Mapping[str, Value | None] | None = None,
        firmware: str = "",
        hints: Sequence[str] = (),
    ) -> None:
        """Makes the image.

        Args:
            profile: of a Modbus device.
            seed: of how its values move; a point of the same name and seed moves alike in every profile.
            settings: values that stay as they are; None is the maker's "no value".
            firmware: text to tell; "" takes one that fits the profile.
            hints: firmware texts to prefer.

        Raises:
            InputError: VALUE_INVALID or UNKNOWN_SIGNAL; it names the point that cannot be simulated and why.
        """
        self.profile = profile
        self.codecs = {name: Codec(profile, name, point) for name, point in profile.points.items()}
        self._held: dict[str, Value | None] = dict(settings or {})
        self._fixed: list[tuple[Table, Patch]] = []
        self.firmware = self._identify(firmware, hints)
        self.tables = self._make_tables()
        self._driven = self._choose_driven()
        self._values: dict[str, float] = {}
        self._choose_scales()
        self._motions = {name: self._motion(name, motion.seeded(seed, name)) for name in self._driven}
        self._moving = [(n, self._writer(n), m) for n, m in self._motions.items() if self._moves(n)]
        self._writes: dict[str, list[float]] = {}
        self._start()

    # ---- making ---------------------------------------------------------------------------------------------

    def _identify(self, firmware: str, hints: Sequence[str]) -> str:
        identify, base = self.profile.identify, self.profile.base or 0
        if identify is None:
            return firmware or firmware_of(self.profile, None, hints)
        wire = parse_type(identify.as_)
        self._fix(identify.at, identify.as_, identity_of(self.profile, wire), base)
        told = identify.firmware
        text = firmware or firmware_of(self.profile, parse_type(told.as_) if told is not None else None, hints)
        if told is not None:
            numeric = parse_type(told.as_).name != "string"
            if numeric and not text.isdecimal():
                raise self._impossible("identify", f"firmware {text!r} is no number, and {told.as_} holds one")
            self._fix(told.at, told.as_, int(text) if numeric else text, base)
        return text

    def _fix(self, at: str, as_: str, value: Value, base: int) -> None:
        point = Point.model_validate({"at": at, "as": as_})
        self._fixed.append((parse_address(at, base).table, Codec(self.profile, "identify", point).patch(value)))

    def _make_tables(self) -> dict[Table, Cells]:
        numbers: dict[Table, set[int]] = {}
        for codec in self.codecs.values():
            at = codec.address.number
            numbers.setdefault(codec.address.table, set()).update(range(at, at + codec.count))
        for table, patch in self._fixed:
            numbers.setdefault(table, set()).update(range(patch.start, patch.start + len(patch.cells) // 2))
        self._loose: set[tuple[Table, int]] = set()
        for point in self.profile.points.values():
            watchdog = point.write.watchdog if point.write is not None else None
            if watchdog is not None and watchdog.at is not None:
                address = parse_address(watchdog.at, self.profile.base or 0)
                numbers.setdefault(address.table, set()).add(address.number)
                self._loose.add((address.table, address.number))
        bridge = self.profile.limits.bridge
        return {t: Cells(1 if t in BIT_TABLES else 2, found, bridge) for t, found in numbers.items()}

    def _choose_driven(self) -> list[str]:
        """Points that get values of their own, whole values before bits; what lies below a held one follows it."""
        taken: set[tuple[Table, int]] = set()
        for table, patch in self._fixed:
            taken |= {(table, bit) for bit in range(16 * patch.start, 16 * patch.start + 8 * len(patch.cells))}
        held = {bit for name in self._held if name in self.codecs for bit in self._bits(name)}
        names = sorted(self.codecs, key=lambda n: (n not in self._held, self.codecs[n].address.bit is not None))
        driven = []
        for name in names:
            bits, flag = self._bits(name), self.codecs[name].address.bit is not None
            if name in self._held or not (bits & held or (bits & taken and not flag)):
                driven.append(name)
                taken |= set() if flag else bits
        return sorted(driven, key=lambda n: self.codecs[n].address.bit is not None)

    def _bits(self, name: str) -> set[tuple[Table, int]]:
        codec = self.codecs[name]
        at, address = 16 * codec.address.number, codec.address
        if address.single_bits:
            return {(address.table, at)}
        if address.bit is not None:
            return {(address.table, at + b) for b in range(address.bit, address.bit + address.width)}
        if codec.wire.half:
            at += 8 * (codec.wire.half == "h")
            return {(address.table, at + b) for b in range(8)}
        return {(address.table, at + b) for b in range(16 * codec.count)}

    def _choose_scales(self) -> None:
        """Gives every point that scales read a value that stays, with which what it scales fits its type."""
        for name in {p for c in self.codecs.values() if c.scale is not None for p in c.scale.points}:
            if name in self._held:
                held = self._held[name]
                if held is not None:
                    self._values[name] = float(held)
                continue
            low, high = self.profile.points[name].range or (-10.0, 10.0)
            value: float = 1 if low <= 1 <= high else round((low + high) / 2)
            if any(c.scale is not None and c.scale.exponent == name for c in self.codecs.values()):
                value = int(min(max(self._exponent(name), low), high))
            self._held[name] = self._values[name] = value

    def _exponent(self, name: str) -> int:
        scaled = [c for c in self.codecs.values() if c.scale is not None and c.scale.exponent == name]
        for exponent in range(-2, 8):
            needed = [
                max(abs(x) for x in motion.span_of(self.profile.points[c.name], motion.Bounds())) / 10.0**exponent
                for c in scaled
            ]
            if all(n <= c.raw_range()[1] * 0.9 for n, c in zip(needed, scaled, strict=True)):
                return exponent
        return 0

    def factor(self, codec: Codec) -> Fraction | None:
        """The factor of a point now; None where it has none."""
        return Fraction(1) if codec.scale is None else codec.scale.exact(self._values)

    def _motion(self, name: str, rng: random.Random) -> motion.Motion:
        point = self.profile.points[name]
        if name in self._held:
            return motion.constant(self._check_held(name))
        kind = kind_of(point)
        if kind is Kind.STRING:
            return motion.constant(f"{self.profile.name.rpartition('/')[2]} {name}".upper())
        if kind is Kind.BOOL:
            return motion.flips(point, rng)
        return motion.states(point, rng, sorted(point.states)) if point.states else self._number(name, rng)

    def _number(self, name: str, rng: random.Random) -> motion.Motion:
        point, codec = self.profile.points[name], self.codecs[name]
        factor = self.factor(codec)
        if codec.scale is not None and any(self._held.get(p, 0) is None for p in codec.scale.points):
            return motion.constant(0)  # what an absent scale factor scales is absent as well
        if not factor:
            scale = codec.scale.text if codec.scale is not None else ""
            raise self._impossible(name, f"its scale {scale!r} has no value; give the points it reads with --set")
        ends = [codec.value(raw, factor) for raw in codec.raw_range()]
        bounds = motion.Bounds(min(ends), max(ends))
        if point.klass == "counter":
            return motion.counter(point, rng, bounds, float(factor), whole=kind_of(point) is Kind.INT)
        if point.klass == "state" or point.priority == "alarm":
            return motion.constant(max(0, bounds.low))
        return motion.gauge(point, rng, bounds)

    def _moves(self, name: str) -> bool:
        return name not in self._held and kind_of(self.profile.points[name]) is not Kind.STRING

    def _check_held(self, name: str) -> Value:
        value, codec = self._held[name], self.codecs[name]
        if value is None:
            if not codec.can_be_absent:
                raise self._impossible(name, "it cannot be absent: the profile names no `absent` for it")
            return ""
        if (codec.wire.name == "string") != isinstance(value, str):
            raise self._impossible(name, f"{value!r} is no value of a {codec.wire.name}")
        if not isinstance(value, str):
            factor = self.factor(codec)
            ends = sorted(codec.value(raw, factor) for raw in codec.raw_range())
            if not ends[0] <= value <= ends[1]:
                raise self._impossible(name, f"{value} does not fit: its registers hold {ends[0]:g} to {ends[1]:g}")
        return value

    def _impossible(self, name: str, why: str) -> InputError:
        return InputError("VALUE_INVALID", f"{self.profile.name} cannot be simulated: {name}: {why}", point=name)

    def _writer(self, name: str) -> Callable[[float], None]:
        codec, factor = self.codecs[name], self.factor(self.codecs[name])
        cells = self.tables[codec.address.table]
        low, high = codec.raw_range()
        if codec.address.bit is not None or codec.address.single_bits or codec.wire.half or codec.wire.name == "bcd":
            return lambda value: cells.apply(codec.patch(value, factor))
        run, at = cells.find(codec.address.number, codec.count)
        if codec.wire.name == "float":
            return lambda value: run.__setitem__(slice(at, at + 2 * codec.count), codec.patch(value, factor).cells)
        # The same number as `codec.raw` but for ties, at a tenth of the time.
        inverse, offset, absent = 1.0 / float(factor or 1), codec.offset, codec.absent
        size, signed, order = 2 * codec.count, codec.wire.name == "int", codec.order

        def write(value: float) -> None:
            raw = int(min(max(round((value - offset) * inverse), low), high))
            if raw == absent:
                raw += 1 if raw < high else -1
            packed = raw.to_bytes(size, "big", signed=signed)
            run[at : at + size] = packed if order == "ABCD" else reordered(packed, order)

        return write

    def _start(self) -> None:
        for table, patch in self._fixed:
            self.tables[table].apply(patch)
        for name, move in self._motions.items():
            codec = self.codecs[name]
            value = None if self._held.get(name, 0) is None else move(0.0)
            self.tables[codec.address.table].apply(codec.patch(value, self.factor(codec)))

    # ---- running --------------------------------------------------------------------------------------------

    def refresh(self, age_s: float, ages_s: Mapping[str, float] | None = None) -> None:
        """Moves all values to an age of the device; `ages_s` says other ages of single points."""
        for name, write, move in self._moving:
            write(move(age_s if ages_s is None else ages_s.get(name, age_s)))  # type: ignore[arg-type]  # no text moves

    def value(self, name: str) -> Value | None:
        """What a point holds, as a decoder reads it; None for "no value" and for what is none."""
        codec = self.codecs[name]
        factor = self.factor(codec)
        if factor is None:
            return None
        try:
            return codec.read(self.tables[codec.address.table].read(codec.address.number, codec.count), factor)
        except ValueError:
            return None

    def show(self, name: str, value: Value) -> None:
        """Puts a value into the registers until the next refresh; a point below another's registers follows it."""
        codec = self.codecs[name]
        self.tables[codec.address.table].apply(codec.patch(value, self.factor(codec)))

    def read(self, function: int, start: int, count: int) -> bytes:
        """The cells of a read request, packed as its reply carries them. Raises RefusedError."""
        table = TABLES[function]
        bits = table in BIT_TABLES
        if not 1 <= count <= (BITS_READ_MAX if bits else self.profile.limits.max_read):
            raise RefusedError(ILLEGAL_VALUE)
        if table not in self.tables:
            raise RefusedError(ILLEGAL_ADDRESS)
        cells = self.tables[table].read(start, count)
        return pack_bits(cells) if bits else cells

    def write(self, table: Table, start: int, cells: bytes, now_s: float) -> list[tuple[str, Value | None]]:
        """Takes cells from a client.

        Returns:
            The points written, with their values.

        Raises:
            RefusedError: a cell does not exist (2), a value or a part of one breaks its rule (3), an interlock is
                open (4), or it comes too soon after others (6).
        """
        if table not in self.tables:
            raise RefusedError(ILLEGAL_ADDRESS)
        held = self.tables[table]
        count = len(cells) // held.width
        run, at = held.find(start, count)
        before = bytes(run[at : at + len(cells)])
        points = [n for n, c in self.codecs.items() if c.address.table == table and _meet(c, start, count)]
        writable = [n for n in points if self.profile.points[n].write is not None]
        covered = {x for n in writable for x in range(self.codecs[n].address.number, _end(self.codecs[n]))}
        covered |= {number for loose, number in self._loose if loose == table}
        if not set(range(start, start + count)) <= covered:
            raise RefusedError(ILLEGAL_ADDRESS, "it cannot be written")
        was = {name: self.value(name) for name in writable}
        run[at : at + len(cells)] = cells
        try:
            taken = [(name, self._judge(name, was[name], start, count, now_s)) for name in writable]
        except RefusedError:
            run[at : at + len(cells)] = before
            raise
        for name, value in taken:
            self._held[name] = value
            self._writes.setdefault(name, []).append(now_s)
        names = set(writable)
        self._moving = [entry for entry in self._moving if entry[0] not in names]
        return taken

    def _judge(self, name: str, was: Value | None, start: int, count: int, now_s: float) -> Value | None:
        point, codec = self.profile.points[name], self.codecs[name]
        rules, value = point.write, self.value(name)
        assert rules is not None, "only points with rules are written"
        if codec.address.number < start or _end(codec) > start + count:
            raise RefusedError(ILLEGAL_VALUE, f"only a part of {name}")
        if isinstance(value, bool | str):
            return value
        if value is None or (rules.range is not None and not rules.range[0] <= value <= rules.range[1]):
            raise RefusedError(ILLEGAL_VALUE, f"{name}: {value} lies outside {rules.range}")
        if point.states and value not in point.states:
            raise RefusedError(ILLEGAL_VALUE, f"{name}: {value} is none of its states")
        if rules.step is not None and isinstance(was, int | float) and abs(value - was) > rules.step * (1 + 1e-9):
            raise RefusedError(ILLEGAL_VALUE, f"{name}: a step of {abs(value - was):g}, at most {rules.step:g}")
        if rules.interlock is not None:
            wanted = not rules.interlock.startswith("not ")
            if bool(self.value(rules.interlock.removeprefix("not "))) != wanted:
                raise RefusedError(FAILURE, f"{name}: {rules.interlock} does not hold")
        self._pace(name, rules.rate, now_s)
        return value

    def _pace(self, name: str, rate: str | None, now_s: float) -> None:
        found = _RATE.fullmatch(rate) if rate else None
        if found is None:
            return
        window_s = int(found[2] or 1) * _RATE_S[found[3]]
        recent = [t for t in self._writes.get(name, []) if now_s - t < window_s]
        self._writes[name] = recent
        if len(recent) >= int(found[1]):
            raise RefusedError(BUSY, f"{name}: more than {rate}")

    def covered(self, function: int, start: int, count: int) -> list[str]:
        """Points that lie whole in a read."""
        table = TABLES[function]
        return [
            n
            for n, c in self.codecs.items()
            if c.address.table == table and start <= c.address.number and _end(c) <= start + count
        ]


def _end(codec: Codec) -> int:
    return codec.address.number + codec.count


def _meet(codec: Codec, start: int, count: int) -> bool:
    return codec.address.number < start + count and _end(codec) > start

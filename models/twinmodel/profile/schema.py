"""Shape of a firmware profile; `load.py` reads it from YAML with places in its errors.

    profile: vendor/device
    firmware: ">=1.0, <2"
    protocol: modbus
    base: 0
    points:
      level: {at: holding 10, as: float32, unit: m, range: [0, 1]}

One line a point. Durations are text such as `20ms`, `1s`, `5min`; percentages such as `0.5%` are kept as text
and refer to the span of `range`. Addresses of devices stay in site.yaml.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from twinmodel.clock import MILLISECOND_NS, SECOND_NS
from twinmodel.signal import Kind, Stream

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)")
_DURATION_NS = {
    "ms": MILLISECOND_NS,
    "s": SECOND_NS,
    "min": 60 * SECOND_NS,
    "h": 3600 * SECOND_NS,
    "d": 86400 * SECOND_NS,
}


def parse_duration(text: object) -> object:
    """Turns `20ms`, `1.5s`, `5min` into integer nanoseconds; integers pass as nanoseconds."""
    if not isinstance(text, str):
        return text
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no duration; write e.g. 20ms, 1s, 5min, 2h")
    return round(float(found[1]) * _DURATION_NS[found[2]])


_NAME = "[a-z0-9][a-z0-9._-]*"
Duration = Annotated[
    int,
    BeforeValidator(parse_duration),
    Field(ge=0),
    PlainSerializer(lambda ns: f"{ns / 1e6:g}ms"),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": f"^{_DURATION.pattern}$"}, {"type": "integer"}]}),
]
Order = Literal["ABCD", "CDAB", "BADC", "DCBA"]
Protocol = Literal["modbus", "opcua", "mqtt"]
Payload = Literal["json", "cbor", "msgpack", "raw", "sparkplug"]
TimeUnit = Literal["s", "ms", "us", "ns", "iso8601"]


class Strict(BaseModel):
    """Unknown keys are errors: a typing mistake must never be ignored silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Report(Strict):
    """Report by exception; only for signals that are bound to no model."""

    deadband: str | float | None = None
    at_least: Duration | None = None


class Watchdog(Strict):
    """What must be written again and again, else the device falls back by itself.

    Attributes:
        at, point: one of the two: an address, or a point of the profile. The point itself is written with the value
            that is held; another point, or an address, with what `feed` says.
        within: the device falls back when nothing came for so long.
        feed: `count` upwards from 1 to 65535 and again, or always `one`.
    """

    at: str | None = None
    point: str | None = None
    within: Duration
    feed: Literal["count", "one"] = "count"


Scalar = str | int | float | bool
QosSent = Literal[0, 1]


class Publish(Strict):
    """mqtt: the message that tells the device.

    Attributes:
        topic: one topic; `{root}` and `{device}` as in topics of points.
        payload: text, or an object of JSON one level deep. `{value}` stands for the value, `{NAME}` for an input of a
            method, `{id}` for the command's own name, `{issued}` for its time in ms; a text that is nothing else
            keeps the type.
        qos: 1 is confirmed by the broker; with 0 nobody knows.
        retain: whether the broker shows it to a device that comes back later.
    """

    topic: str
    payload: Scalar | dict[str, Scalar] = "{value}"
    qos: QosSent = 1
    retain: bool = False


class Write(Strict):
    """Rules a write must obey; a point without them is never written, nor one that site.yaml does not allow.

    Attributes:
        range: lowest and highest value, in `unit`; needed but for bits and points with `states`.
        rate: most writes in a time, `2/min`.
        klass: A may go unattended, B needs two persons.
        step: largest change of one write against the last good value, in `unit`.
        interlock: a point of the profile that must be true (not 0) for a write, `not POINT` for the contrary; its
            newest value must be good and fresh.
        watchdog: see `Watchdog`; without it a value can be written, and not held.
        settle: how long the device may take until it shows the value it was told.
        tolerance: how far what is read back may lie from what was written, in `unit`; else one step of the encoding.
        bits: modbus: how a part of a register is written: `mask` by function 22, `merge` by reading the register and
            writing it back, which undoes what the device changes in between.
        function: modbus: `single` (5, 6) or `multiple` (15, 16), where the device knows one alone.
        publish: mqtt: see `Publish`.
    """

    range: tuple[float, float] | None = None
    rate: str | None = None
    klass: Literal["A", "B"] = Field("B", alias="class")
    step: float | None = Field(None, gt=0)
    interlock: str | None = None
    watchdog: Watchdog | None = None
    settle: Duration = SECOND_NS
    tolerance: float | None = Field(None, gt=0)
    bits: Literal["mask", "merge"] | None = None
    function: Literal["single", "multiple"] | None = None
    publish: Publish | None = None


class MethodInput(Strict):
    """One argument of a method; `range` and `states` bound it as those of a point do."""

    as_: str = Field("float64", alias="as")
    unit: str = ""
    range: tuple[float, float] | None = None
    states: dict[int, str] = Field(default_factory=dict, max_length=256)
    description: str = ""


class Method(Strict):
    """Something the device can be told to do; never done unless site.yaml allows it.

    Attributes:
        at: opcua: the method, as `at` of a point.
        object: opcua: the object it belongs to; needed when `at` is a node id, else the path before its last name.
        publish: mqtt: see `Publish`.
        inputs: its arguments, in their order.
        rate, klass, interlock: as of a `write`.
    """

    at: str | None = None
    object: str | None = None
    publish: Publish | None = None
    inputs: dict[str, MethodInput] = Field(default_factory=dict, max_length=32)
    rate: str | None = None
    klass: Literal["A", "B"] = Field("B", alias="class")
    interlock: str | None = None
    description: str = ""


class Limits(Strict):
    """What the device can take."""

    max_read: int = Field(125, ge=1, le=125)
    delay: Duration = 0
    connections: int = Field(1, ge=1, le=16)
    bridge: int = Field(0, ge=0, le=120, description="unused registers a block read may span; opt-in")


class IdentifyFirmware(Strict):
    """Where the device tells its firmware; the text read must lie in the profile's `firmware`."""

    at: str
    as_: str = Field("string(16)", alias="as")


class Identify(Strict):
    """How to recognise the device: read `at`, compare with the shell pattern `match`."""

    at: str
    as_: str = Field("string(16)", alias="as")
    match: str
    firmware: IdentifyFirmware | None = None


class Availability(Strict):
    """mqtt: the topic on which a device, or its Last Will, says whether it is there.

    Attributes:
        topic: exact topic; `{root}` and `{device}` as in topics of points. Published retained, as a rule.
        at: JSON path of the word in the payload, `$` for all of it.
        online, offline: the words; any other word changes nothing and is counted as an error.
    """

    topic: str
    at: str = "$"
    online: str = "online"
    offline: str = "offline"


class Point(Strict):
    """One signal of the device.

    Attributes:
        at: where it lies. modbus `coil|discrete|input|holding N[.bit]`; opcua a browse path below the
            device's root such as `Pump/Flow`, or a node id such as `s=Pump.Flow` (see `node.py`); mqtt a JSON path
            such as `$.flow`, or `$` for the whole payload.
        topic: mqtt topic filter, `{root}` is the device's root from site.yaml.
        as_: type on the wire, e.g. float32, uint16, int64, bit, string(16); the default fits the protocol.
        where: mqtt captures of the topic that choose this point: `{line}` must then be this text; a capture that is
            neither here nor `{root}`, `{device}` or `{point}` (the point's name) stands for any one level.
        payload, time, time_unit, key, each, spacing, unit_at, optional, qos: mqtt, see `Defaults`.
        expect_every: mqtt: when nothing came for so long, the signal is STALE.
        device_unit: opcua: unit in which the node's values really come, where the server's label is wrong.
        queue: opcua: values the server keeps for us while the link is slow or cut; see `Defaults`.
        scale: factor from raw to `unit`: a number, `10^@point`, or an expression, see `scale.py`.
        states: names of the values of an integer or a bit: `{0: "off", 1: "on"}`.
        wraps: of a counter: number of raw counts after which it starts again at 0.
        resolution: step of the device's converter, e.g. 0.01; lets storage be exact and small.
        rate: largest plausible change per second, in `unit`.
        frozen: time after which an unchanged value is suspect (polled protocols only).
        age: time after which the last value counts as STALE for a model; default three periods.
    """

    at: str
    as_: str | None = Field(None, alias="as")
    unit: str = ""
    topic: str | None = None
    where: dict[str, str] = Field(default_factory=dict)
    payload: Payload | None = None
    time: str | None = None
    time_unit: TimeUnit | None = None
    key: str | None = None
    each: str | None = None
    spacing: Duration | None = None
    unit_at: str | None = None
    optional: bool | None = None
    expect_every: Duration | None = None
    qos: Literal[0, 1] | None = None
    every: Duration | None = None
    queue: int | None = Field(None, ge=1, le=10_000)
    device_unit: str | None = None
    order: Order | None = None
    scale: str | float | None = None
    offset: float | None = None
    absent: int | float | str | None = None
    range: tuple[float, float] | None = None
    rate: float | None = Field(None, gt=0)
    frozen: Duration | None = None
    age: Duration | None = None
    accuracy: str | float | None = None
    resolution: float | None = Field(None, gt=0)
    klass: Literal["gauge", "counter", "state"] = Field("gauge", alias="class")
    wraps: float | None = Field(None, gt=0)
    states: dict[int, Annotated[str, Field(min_length=1, max_length=64)]] = Field(default_factory=dict, max_length=256)
    priority: Literal["alarm", "state", "telemetry", "bulk"] | None = None
    report: Report | None = None
    write: Write | None = None
    description: str = ""


class Defaults(Strict):
    """Values of every point that does not say otherwise.

    Attributes:
        every: poll period (modbus), sampling interval (opcua), expected period (mqtt).
        queue: opcua: queue size asked for; the default holds ten samples, and four publishing intervals.
        topic: mqtt topic filter of points without one.
        payload: mqtt: how payloads are written; `raw` is one number or word, `sparkplug` is Sparkplug B.
        time: mqtt: JSON path of the event time in the payload.
        time_unit: unit of that number; text in ISO 8601 with an offset is read whatever this says, and `iso8601`
            refuses numbers.
        key: mqtt: JSON path of what tells two messages of a topic apart (a counter, an id): of two messages with
            the same key one is stored.
        each: mqtt: JSON path of a list of samples; `at`, `time` and `unit_at` then start at each
            element; a path that begins with `$$` starts at the payload.
        spacing: mqtt: distance of the elements of `each`; `time` then starts at the payload and is the first one's.
        unit_at: mqtt: JSON path of the unit; values are converted to the point's `unit`, and refused when that
            cannot be done.
        optional: mqtt: a payload without the point says nothing about it; else it is bad(DECODE).
        expect_every: mqtt: see `Point`.
        qos: mqtt: 1 loses nothing, 0 is at most once. 2 is not offered: a broker sends such a message once, before
            it is stored.
    """

    every: Duration = SECOND_NS
    queue: int | None = Field(None, ge=1, le=10_000)
    order: Order | None = None
    topic: str | None = None
    payload: Payload = "json"
    time: str | None = None
    time_unit: TimeUnit = "ms"
    key: str | None = None
    each: str | None = None
    spacing: Duration | None = None
    unit_at: str | None = None
    optional: bool = False
    expect_every: Duration | None = None
    qos: Literal[0, 1] = 1
    report: Report | None = None


class FirmwareProfile(Strict):
    """One firmware version of one device; `name` is `vendor/device`.

    Attributes:
        inherits: `vendor/device/firmware` of a profile this one changes: its points and keys hold where this file
            says nothing, a point here replaces the whole point there, `point: null` removes it.
        firmware: versions the file fits: `*`, `2.4`, `2.4.*`, `>=2.3, <3`; never inherited.
        methods: what the device can be told to do, opcua and mqtt.
    """

    name: str = Field(alias="profile", pattern=rf"^{_NAME}/{_NAME}$")
    inherits: str | None = Field(None, pattern=rf"^{_NAME}/{_NAME}/{_NAME}$")
    firmware: str = "*"
    protocol: Protocol
    source: str = Field("", description="the maker's document the facts come from")
    base: Literal[0, 1] | None = None
    order: Order = "ABCD"
    namespace: str | None = Field(None, description="opcua: URI of the namespace browse names lie in")
    limits: Limits = Limits()
    identify: Identify | None = None
    availability: Availability | None = Field(None, description="mqtt: where the device or its Last Will speaks")
    defaults: Defaults = Defaults()
    points: dict[str, Point] = Field(min_length=1)
    methods: dict[str, Method] = Field(default_factory=dict, max_length=256)

    def every_ns(self, point: Point) -> int:
        """Nominal distance of the point's samples in nanoseconds."""
        return point.every if point.every is not None else self.defaults.every


_KINDS = {"bit": Kind.BOOL, "bool": Kind.BOOL, "string": Kind.STRING, "float": Kind.FLOAT}


def kind_of(point: Point) -> Kind:
    """Kind of the signal a point becomes: integers with a scale become floats."""
    text = (point.as_ or "float64").partition("(")[0].rstrip("0123456789")
    if text in _KINDS:
        return _KINDS[text]
    return Kind.FLOAT if point.scale is not None or point.offset is not None else Kind.INT


def stream_of(point: Point, *, bound: bool) -> Stream:
    """Priority class: what the profile says, else STATE for inputs of a twin and TELEMETRY for the rest."""
    if point.priority is not None:
        return Stream[point.priority.upper()]
    return Stream.STATE if bound else Stream.TELEMETRY

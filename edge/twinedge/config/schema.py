"""Shape of site.yaml.

site: plant-a
devices:
  press: {opcua: "opc.tcp://10.0.0.9:4840", root: Press, profile: acme/press}
twins:
  tank-1:
    definition: two-tanks
    inputs: {pump: press.pump_voltage}
    outputs: {level2: press.level2}
    model: two-tanks@1.0.0
spool: {disk: 2GiB}
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from twinedge.config.alarms import AlarmDefaults, AlarmRules
from twinedge.config.commands import Commands
from twinedge.config.northbound import Northbound
from twinedge.config.remote import Changes
from twinmodel.clock import SECOND_NS
from twinmodel.profile.schema import Duration, Strict, parse_duration

_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|KiB|MB|MiB|GB|GiB|TiB)?")
_BYTE_UNITS = {"B": 1, "kB": 10**3, "KiB": 2**10, "MB": 10**6, "MiB": 2**20, "GB": 10**9, "GiB": 2**30, "TiB": 2**40}
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"


def parse_bytes(text: object) -> object:
    """Turns `2GiB`, `64 MB` into a number of bytes; integers pass."""
    if not isinstance(text, str):
        return text
    found = _BYTES.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no size; write e.g. 512MiB, 2GiB")
    return round(float(found[1]) * _BYTE_UNITS[found[2] or "B"])


Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(gt=0)]


class Security(Strict):
    """How to speak to a device safely; paths are relative to site.yaml.

    Attributes:
        policy, mode: OPC UA security.
        user, password_file: a name and where its password lies; passwords never stand in site.yaml.
        server_certificate: OPC UA: the certificate to trust (PEM or DER).
        user_certificate, user_key: OPC UA: show who the user is by certificate instead of a name.
        ca, certificate, key: MQTT over TLS; OPC UA: the last two replace the certificate the agent makes for itself.
    """

    policy: Literal["None", "Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"] = "None"
    mode: Literal["none", "sign", "sign_and_encrypt"] = "none"
    user: str | None = None
    password_file: str | None = None
    server_certificate: str | None = None
    user_certificate: str | None = None
    user_key: str | None = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None


class MqttBroker(Strict):
    """A broker about which more is to be said than its address: `mqtt: {url: "mqtts://broker:8883", version: 3.1.1}`.

    Attributes:
        url: `mqtt://host:port` or `mqtts://`.
        version: of MQTT; without it 5, then 3.1.1 with a broker that knows no other.
        rebirth: Sparkplug: whether nodes may be asked to publish their births again. It is the one thing the agent
            sends unasked; without it a gap of a node's sequence leaves its signals STALE until the node's own birth.
        primary_host: Sparkplug: identifier under which this agent tells nodes that it is there (STATE); nodes that
            are set to this host store while it is away.
    """

    url: str
    version: Literal["3.1.1", "5"] | None = None
    rebirth: bool = True
    primary_host: str | None = Field(None, pattern=r"^[^/+#\x00]{1,128}$")

    @field_validator("version", mode="before")
    @classmethod
    def _as_text(cls, version: object) -> object:
        return str(version) if isinstance(version, int) else version


class OwnAlarms(Strict):
    """What is done with alarms that a device raises itself; `alarms: true` takes them over and writes nothing.

    Attributes:
        acknowledge: whether an acknowledgement here is told to the device. Off: nothing is written to it.
    """

    acknowledge: bool = False


class Device(Strict):
    """One device: exactly one address, the profile of its firmware, and where inside the server it lies.

    Attributes:
        modbus: `tcp://host:port`, `rtu+tcp://host:port` or `rtu:///dev/ttyUSB0?baud=9600&parity=E`, with `unit_id`.
            `tcp://10.0.0.{20..59}:502` and `unit_id: "1..32"` stand for many devices, named `NAME-1` and so on.
        opcua: `opc.tcp://host:port/path`; `root` is the browse path of the device below Objects.
        mqtt: `mqtt://host:port` or `mqtts://`, or a `MqttBroker`; `root` is the topic prefix, of Sparkplug
            `GROUP/EDGE_NODE[/DEVICE]`.
        alarms: opcua: whether the server's own alarms and conditions are alarms here, too; see `OwnAlarms`.
    """

    modbus: str | None = None
    opcua: str | None = None
    mqtt: str | MqttBroker | None = None
    profile: str
    unit_id: Annotated[int, Field(ge=0, le=255)] | Annotated[str, Field(pattern=r"^\d{1,3}\.\.\d{1,3}$")] = 1
    root: str = ""
    alarms: bool | OwnAlarms = False
    security: Security = Security()

    @model_validator(mode="after")
    def _one_address(self) -> Device:
        if sum(a is not None for a in (self.modbus, self.opcua, self.mqtt)) != 1:
            raise ValueError("give exactly one of modbus, opcua, mqtt")
        if self.alarms and self.opcua is None:
            raise ValueError("alarms: devices of OPC UA alone tell alarms of their own")
        return self

    @property
    def protocol(self) -> str:
        """`modbus`, `opcua` or `mqtt`."""
        return "modbus" if self.modbus else "opcua" if self.opcua else "mqtt"

    @property
    def address(self) -> str:
        """The one address given."""
        return self.modbus or self.opcua or self.broker.url

    @property
    def acknowledges(self) -> bool:
        """Whether the device is told that somebody has seen an alarm of its own."""
        return isinstance(self.alarms, OwnAlarms) and self.alarms.acknowledge

    @property
    def broker(self) -> MqttBroker:
        """What is said about the broker of an mqtt device."""
        return self.mqtt if isinstance(self.mqtt, MqttBroker) else MqttBroker(url=self.mqtt or "")


class Substitute(Strict):
    """Outputs for which the model stands in while their measurement is missing: `substitute: [level2]`.

    Attributes:
        outputs: outputs of the model that are measured.
        for_: how long, in one run; after it the property is STALE. `ever` for no limit.
    """

    outputs: list[str] = Field(default_factory=list)
    for_: Duration | Literal["ever"] = Field(600 * SECOND_NS, alias="for")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, written: object) -> object:
        return {"outputs": written} if isinstance(written, list) else written

    @field_validator("for_", mode="before")
    @classmethod
    def _ever(cls, written: object) -> object:
        return written if written == "ever" else parse_duration(written)

    @property
    def limit_ns(self) -> int:
        """Longest substitution, 0 for any."""
        return 0 if self.for_ == "ever" else self.for_


class Twin(Strict):
    """One asset: which signals feed its model, and which model runs at first boot.

    Attributes:
        inputs: input of the model -> `device.point`.
        outputs: output of the model -> `device.point` that measures it; an output not named is virtual.
        properties: further measured properties of the twin that no model uses.
        substitute: see `Substitute`.
        model: `name@version`, empty for a twin without a model; the coordinator's desired state wins.
    """

    definition: str
    inputs: dict[str, str] = Field(default_factory=dict)
    outputs: dict[str, str] = Field(default_factory=dict)
    properties: dict[str, str] = Field(default_factory=dict)
    model: str = ""
    substitute: Substitute = Substitute()

    @model_validator(mode="after")
    def _measured(self) -> Twin:
        for output in self.substitute.outputs:
            if output not in self.outputs:
                raise ValueError(f"substitute: {output!r} is none of `outputs`, so nothing measures it")
        return self


class Spool(Strict):
    """The durable buffer."""

    disk: Bytes = 256 * 2**20
    sync: Duration = SECOND_NS
    sync_telemetry: Duration = 10 * SECOND_NS
    when_full: Literal["thin", "drop_oldest", "drop_newest", "reject"] = "thin"


class Status(Strict):
    """Local HTTP status and metrics; loopback unless told."""

    host: str = "127.0.0.1"
    port: int = Field(8430, ge=0, le=65535)


class Site(Strict):
    """One gateway's configuration. `uplink` overrides the coordinator's address that `join` stored (host:port)."""

    site: str = Field(pattern=NAME)
    profiles: str | None = Field(None, description="folder of firmware profiles, relative to site.yaml")
    devices: dict[Annotated[str, Field(pattern=NAME)], Device] = Field(min_length=1)
    twins: dict[Annotated[str, Field(pattern=NAME)], Twin] = Field(default_factory=dict)
    alarms: AlarmRules = Field(default_factory=dict)
    alarm_defaults: AlarmDefaults = AlarmDefaults()
    commands: Commands = Commands()
    spool: Spool = Spool()
    status: Status = Status()
    config: Changes = Changes()
    uplink: str | None = Field(None, pattern=r"^\S+:\d{1,5}$")
    northbound: Northbound | None = None

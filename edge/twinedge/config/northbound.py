"""Shape of `northbound:` in site.yaml: what is served to the site itself, over OPC UA and MQTT.

northbound:
  opcua: {listen: "127.0.0.1:4840", users: {scada: {password_file: scada.pw}}}
  mqtt: {to: "mqtts://broker:8883", security: {ca: ca.pem, user: gateway, password_file: mqtt.pw}}
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from twinmodel.clock import MILLISECOND_NS, SECOND_NS
from twinmodel.profile.document import Document
from twinmodel.profile.schema import Duration, Strict

Policy = Literal["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"]
Pattern = Annotated[str, Field(min_length=1, max_length=256)]
_USER = r"^[^\x00-\x1f:]{1,64}$"


def default_policies() -> list[Policy]:
    """Those that most clients know, and none that is broken."""
    return ["Basic256Sha256", "Aes256Sha256RsaPss"]


PLACES = ("site", "gateway")


class ServedUser(Strict):
    """One user who may read.

    Attributes:
        password_file: holds the password, or the line that `twinedge.northbound.users.hashed` makes of it.
    """

    password_file: str


class OpcuaServer(Strict):
    """A read-only OPC UA server.

    Attributes:
        listen: address and port; other than loopback only with security.
        policies: of security, each with Sign and SignAndEncrypt.
        mode: `sign_and_encrypt` alone, or `sign` too.
        users: names that may log in.
        user_certificates: folder of certificates that may log in.
        certificates: folder of the certificates of client applications (or their authorities) that may connect;
            without it any may, and the user decides.
        anonymous: whether a client needs no user.
        insecure: whether security policy None is offered, too; on loopback only.
        signals: shell patterns of names of signals to serve; one that begins with `!` takes away.
        publish: shortest publishing interval.
        sessions, subscriptions, items: most there may be at once, in all.
        share: part of a core that requests of clients may take, in percent.
    """

    listen: str = "127.0.0.1:4840"
    policies: list[Policy] = Field(default_factory=default_policies, min_length=1)
    mode: Literal["sign", "sign_and_encrypt"] = "sign_and_encrypt"
    users: dict[Annotated[str, Field(pattern=_USER)], ServedUser] = Field(default_factory=dict, max_length=100)
    user_certificates: str | None = None
    certificates: str | None = None
    anonymous: bool = False
    insecure: bool = False
    signals: list[Pattern] = Field(default_factory=lambda: ["*"], min_length=1, max_length=1000)
    publish: Duration = Field(250 * MILLISECOND_NS, ge=50 * MILLISECOND_NS, le=3600 * SECOND_NS)
    sessions: int = Field(16, ge=1, le=200)
    subscriptions: int = Field(64, ge=1, le=1000)
    items: int = Field(50_000, ge=1, le=1_000_000)
    share: int = Field(25, ge=1, le=100)

    @field_validator("listen")
    @classmethod
    def _address(cls, listen: str) -> str:
        parse_listen(listen)
        return listen

    @model_validator(mode="after")
    def _safe(self) -> OpcuaServer:
        if self.insecure and not self.loopback:
            raise ValueError("`insecure` is for loopback only: listen on 127.0.0.1, or leave it out")
        if not (self.users or self.user_certificates or self.certificates or self.anonymous):
            raise ValueError(
                "nobody may connect; give `users`, `user_certificates`, `certificates` or `anonymous: true`"
            )
        return self

    @property
    def host(self) -> str:
        """Address it listens on."""
        return parse_listen(self.listen)[0]

    @property
    def port(self) -> int:
        """Port it listens on, 0 for any."""
        return parse_listen(self.listen)[1]

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class BrokerSecurity(Strict):
    """How to speak to the broker safely; paths are relative to site.yaml. As `security` of a device, for MQTT."""

    user: str | None = None
    password_file: str | None = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None

    @model_validator(mode="after")
    def _pair(self) -> BrokerSecurity:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("`certificate` and `key` belong together")
        return self


class MqttPublisher(Strict):
    """Newest values, retained at a broker: a view, not a record.

    Attributes:
        to: `mqtt://host:port` or `mqtts://`.
        topic: beginning of all topics; `{site}` and `{gateway}` stand for their names.
        shape: one message a `signal`, or one a `group`, which is a device or a twin.
        every: shortest distance of two messages of a topic.
        again: unchanged values are told again after it, 0 for never.
        qos: of values; births, wills and discovery have 1.
        retain: whether the broker keeps the newest of each for those who come later.
        discovery: `home-assistant`, or nothing.
        discovery_prefix: where Home Assistant looks.
        version: of MQTT; without it 5, then 3.1.1 with a broker that knows no other.
        queue: most messages on the way at once.
        share: part of a core that publishing may take, in percent.
    """

    to: str
    topic: str = Field("hybridtwin/{site}/{gateway}", min_length=1, max_length=512)
    security: BrokerSecurity = BrokerSecurity()
    signals: list[Pattern] = Field(default_factory=lambda: ["*"], min_length=1, max_length=1000)
    shape: Literal["signal", "group"] = "signal"
    every: Duration = Field(SECOND_NS, ge=100 * MILLISECOND_NS, le=3600 * SECOND_NS)
    again: Duration = 0
    qos: Literal[0, 1] = 1
    retain: bool = True
    discovery: Literal["home-assistant"] | None = None
    discovery_prefix: str = Field("homeassistant", pattern=r"^[^+#\x00]{1,128}$")
    version: Literal["3.1.1", "5"] | None = None
    queue: int = Field(100, ge=1, le=10_000)
    share: int = Field(25, ge=1, le=100)

    @field_validator("version", mode="before")
    @classmethod
    def _as_text(cls, version: object) -> object:
        return str(version) if isinstance(version, int) and not isinstance(version, bool) else version

    @field_validator("to")
    @classmethod
    def _broker(cls, to: str) -> str:
        try:
            parts = urlsplit(to)
            fits = parts.scheme in {"mqtt", "mqtts"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"{to!r} is no address; write mqtt://host:port or mqtts://host:port")
        if parts.username is not None or parts.password is not None:
            raise ValueError("no user or password in an address; use security.user and security.password_file")
        return to

    @field_validator("topic")
    @classmethod
    def _no_wildcard(cls, topic: str) -> str:
        plain = topic
        for place in PLACES:
            plain = plain.replace(f"{{{place}}}", "x")
        if any(c in plain for c in "+#\0{}") or plain.startswith(("/", "$")) or plain.endswith("/"):
            raise ValueError(
                f"{topic!r} is no beginning of a topic: no + or #, and only {{site}} and {{gateway}} in braces"
            )
        return topic


class Northbound(Strict):
    """What the site itself may read, and how."""

    opcua: OpcuaServer | None = None
    mqtt: MqttPublisher | None = None


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port of `127.0.0.1:4840` or `[::1]:4840`; raises ValueError."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is no address to listen on; write e.g. 127.0.0.1:4840")
    return host, int(port)


def check_northbound(document: Document, northbound: Northbound | None) -> None:
    """Passes when the files and folders that `northbound:` names are there.

    Raises:
        ConfigError: FILE_MISSING with the line.
    """
    if northbound is None:
        return
    named: list[tuple[tuple[str, ...], str | None]] = []
    if northbound.opcua is not None:
        opcua = northbound.opcua
        named += [(("opcua", "users", user, "password_file"), u.password_file) for user, u in opcua.users.items()]
        named += [(("opcua", key), getattr(opcua, key)) for key in ("user_certificates", "certificates")]
    if northbound.mqtt is not None:
        secret = ("password_file", "ca", "certificate", "key")
        named += [(("mqtt", "security", key), getattr(northbound.mqtt.security, key)) for key in secret]
    for keys, relative in named:
        if relative is None:
            continue
        path = document.path.parent / relative
        folder = keys[-1] in {"user_certificates", "certificates"}
        if not (path.is_dir() if folder else path.is_file()):
            kind = "folder" if folder else "file"
            raise document.error("FILE_MISSING", ("northbound", *keys), f"no {kind} {path}")

"""How a broker of MQTT is reached: its address, who we are to it, TLS; for drivers, the publisher and the probe."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiomqtt

from twinedge.config.northbound import BrokerSecurity
from twinedge.config.schema import Security

PORT, PORT_TLS = 1883, 8883
V5, V311 = aiomqtt.ProtocolVersion.V5, aiomqtt.ProtocolVersion.V311
NOT_APPLICABLE: Final = 3
"""paho's `clean_start` below MQTT 5."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a broker listens."""

    host: str
    port: int
    tls: bool

    @staticmethod
    def of(url: str) -> Place:
        """Of `mqtt://host:port` or `mqtts://`; the port may be left out."""
        parts = urlsplit(url)
        tls = parts.scheme == "mqtts"
        return Place(parts.hostname or "", parts.port or (PORT_TLS if tls else PORT), tls)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Login:
    """Who we are to the broker; files only, so that no secret stands in a configuration or on a command line.

    Attributes:
        user, password_file: a name and where its password lies; None for an anonymous client.
        ca: authority of the broker's certificate, PEM; None for those of the machine.
        certificate, key: what we show to the broker, PEM.
    """

    user: str | None = None
    password_file: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @staticmethod
    def of(security: Security | BrokerSecurity, beside: Callable[[str], Path]) -> Login:
        """What a `security` says; `beside` makes its paths absolute. Made anew for each connection: files may move."""
        names = (security.password_file, security.ca, security.certificate, security.key)
        return Login(security.user, *(beside(name) if name else None for name in names))

    def password(self) -> str | None:
        """The password of `user`; raises OSError, and ValueError for a file that is not UTF-8."""
        return None if self.password_file is None else self.password_file.read_text("utf-8").strip()

    def context(self) -> ssl.SSLContext:
        """What TLS needs; raises OSError, of which `ssl.SSLError` is one, for files that cannot be used."""
        context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        if self.certificate is not None and self.key is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context

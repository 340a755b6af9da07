"""Who is there: hosts of a range whose port answers, then what each of them says of itself. Reads only, bounded.

10.0.0.0/28 ─▶ hosts ─▶ a TCP handshake each, some at a time ─▶ probe ─▶ Found
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinedge.config.address import spread_address
from twinedge.config.broker import Login
from twinedge.probe.modbus import probe_modbus
from twinedge.probe.mqtt import probe_mqtt
from twinedge.probe.opcua import Wanted, probe_opcua
from twinedge.probe.target import modbus_target, url_target
from twinmodel.clock import Clock
from twinmodel.errors import InputError, TwinError

HOSTS_MAX = 1024
"""Of one protocol; a larger network is another person's to scan."""
AT_ONCE = 32
CONNECT_S = 0.5
LISTEN_S = 10.0
MESSAGES_MAX = 20_000
_RANGE = re.compile(r"(\d+\.\d+\.\d+\.)(\d{1,3})(?:\.\.|-)(\d{1,3})")
_PLAIN = re.compile(r"[^a-z0-9]+")

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Found:
    """A device, or what may be one.

    Attributes:
        protocol: `modbus`, `opcua` or `mqtt`.
        address: as site.yaml takes it.
        profile: `vendor/device/version` that fits, "" for none.
        sure: whether it said who it is.
        why: what fits, or why nothing does.
        unit_id: modbus.
        root: where the device lies inside its server.
        security: policy and mode of an OPC UA server, empty for none.
        step: what a person has to do before it can be read, "" for nothing.
        called: what it calls itself.
    """

    protocol: str
    address: str
    profile: str = ""
    sure: bool = False
    why: str = ""
    unit_id: int = 0
    root: str = ""
    security: tuple[str, str] | None = None
    step: str = ""
    called: str = ""

    @property
    def stem(self) -> str:
        """A short name for it, before its number."""
        named = self.profile.split("/")[1] if self.profile else _PLAIN.sub("-", self.called.lower()).strip("-")[:24]
        return named or self.protocol


def places_of(protocol: str, text: str) -> list[str]:
    """Addresses that `10.0.0.0/28`, `10.0.0.20..59`, `10.0.0.7:1502` or a URL stands for.

    Raises:
        InputError: VALUE_INVALID, LIMIT_EXCEEDED for more than `HOSTS_MAX`.
    """
    try:
        hosts = _hosts(text.strip())
    except ValueError as wrong:
        hint = "write e.g. 10.0.0.0/28, 10.0.0.20..59, 10.0.0.7:1502 or a host name"
        raise InputError("VALUE_INVALID", f"{text!r}: {wrong}", hint=hint) from None
    if len(hosts) > HOSTS_MAX:
        raise InputError(
            "LIMIT_EXCEEDED", f"{text!r} is {len(hosts)} hosts, at most {HOSTS_MAX}", hint="name a part of it"
        )
    if protocol == "modbus":
        return [modbus_target(host).url for host in hosts]
    return [url_target(host, protocol) for host in hosts]


async def find_modbus(
    places: Sequence[str], units: Sequence[int], *, clock: Clock, profiles: Path | None, timeout_s: float, tell: Tell
) -> list[Found]:
    """Units behind the addresses that answer, with the profiles whose `identify` they meet."""
    found: list[Found] = []
    for place in await _answering("modbus", places, tell):
        try:
            told = await probe_modbus(
                modbus_target(place), units, [], clock=clock, timeout_s=timeout_s, profiles=profiles, tell=tell
            )
        except TwinError as silent:
            tell(f"{place}: {silent.message}")
            continue
        found += [_unit(place, unit) for unit in told["units"]]
    return found


async def find_opcua(
    places: Sequence[str], *, state: Path, clock: Clock, profiles: Path | None, tell: Tell
) -> list[Found]:
    """OPC UA servers, with the profiles whose points they have, or the step that trust still needs."""
    found: list[Found] = []
    for place in await _answering("opcua", places, tell):
        try:
            told, problem = await probe_opcua(place, Wanted(), state=state, clock=clock, profiles=profiles)
        except TwinError as silent:
            tell(f"{place}: {silent.message}")
            continue
        tried = told["tried"]
        security = None if tried["policy"] == "None" else (tried["policy"], tried["mode"])
        step = "" if problem is None else f"{problem.message}. {problem.hint or ''}".strip()
        called = str(told.get("server", {}).get("product", ""))
        server = Found("opcua", place, security=security, step=step, called=called, why=step or "no profile fits")
        found += _fitting(server, told.get("profiles", [])) or [server]
    return found


async def find_mqtt(
    places: Sequence[str], *, clock: Clock, profiles: Path | None, identifier: str, tell: Tell
) -> list[Found]:
    """Brokers, with the profiles whose topics were heard."""
    found: list[Found] = []
    for place in await _answering("mqtt", places, tell):
        tell(f"{place}: listens for {LISTEN_S:g} s")
        try:
            told, problem = await probe_mqtt(
                place,
                Login(),
                ("#",),
                LISTEN_S,
                identifier=identifier,
                clock=clock,
                profiles=profiles,
                messages_max=MESSAGES_MAX,
            )
        except TwinError as silent:
            tell(f"{place}: {silent.message}")
            continue
        step = "" if problem is None else f"{problem.message}. {problem.hint or ''}".strip()
        broker = Found("mqtt", place, step=step, why=step or "no profile fits a topic that was heard", called="broker")
        found += _fitting(broker, told.get("profiles", [])) or [broker]
    return found


def _unit(address: str, unit: dict[str, Any]) -> Found:
    said = unit.get("identification") or {}
    called = str(said.get("product", "") or said.get("product_code", "") or "")
    plain = Found("modbus", address, unit_id=unit["unit"], called=called, why="no profile's `identify` fits")
    matches = _fitting(plain, unit.get("profiles", []))
    return matches[0] if matches else plain


def _fitting(plain: Found, matches: Iterable[dict[str, Any]]) -> list[Found]:
    """What fits, surely if anything does: one for each place inside the server."""
    by_root: dict[str, dict[str, Any]] = {}
    for match in sorted(matches, key=lambda m: not m["sure"]):
        by_root.setdefault(match["root"], match)
    return [
        Found(
            plain.protocol,
            plain.address,
            match["profile"],
            match["sure"],
            match["why"],
            plain.unit_id,
            root,
            plain.security,
            plain.step,
            plain.called,
        )
        for root, match in by_root.items()
    ]


async def _answering(protocol: str, places: Sequence[str], tell: Tell) -> list[str]:
    """Places whose port takes a connection; serial lines and single hosts are asked by the probe itself."""
    if len(places) <= 1:
        return list(places)
    tell(f"{protocol}: a TCP handshake with {len(places)} hosts, {AT_ONCE} at a time, {CONNECT_S:g} s each")
    places_left = asyncio.Semaphore(AT_ONCE)

    async def answers(place: str) -> bool:
        async with places_left:
            return await _open(place)

    found = await _all([answers(place) for place in places])
    answering = [place for place, there in zip(places, found, strict=True) if there]
    tell(f"{protocol}: {len(answering)} of {len(places)} answer")
    return answering


async def _all(works: Iterable[Awaitable[bool]]) -> list[bool]:
    return list(await asyncio.gather(*works))


async def _open(place: str) -> bool:
    host, _, port = place.partition("://")[2].partition("/")[0].rpartition(":")
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _hosts(text: str) -> list[str]:
    """Hosts, with the port each was written with."""
    if text.startswith(("rtu:", "/dev/")):
        return [text]
    if "{" in text:
        return spread_address(text)
    scheme, _, rest = text.rpartition("://")
    before = f"{scheme}://" if scheme else ""
    if "/" in rest and not scheme:
        network, _, port = rest.partition(":")
        found = ipaddress.ip_network(network, strict=False)
        if found.num_addresses > 4 * HOSTS_MAX:
            raise ValueError(f"{found.num_addresses} addresses")
        return [
            f"{host}:{port}" if port else str(host) for host in (found.hosts() if found.num_addresses > 1 else found)
        ]
    spread = _RANGE.match(rest)
    if spread:
        low, high, tail = int(spread[2]), int(spread[3]), rest[spread.end() :]
        if not low <= high <= 255:
            raise ValueError(f"{low}..{high} is no range of addresses")
        return [f"{before}{spread[1]}{n}{tail}" for n in range(low, high + 1)]
    return [text]

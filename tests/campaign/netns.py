"""A network of namespaces: the coordinator in one, each gateway in its own behind a link that can go bad; root only.

    [ center 10.231.0.1 ]══veth══[ gateway n: nft drops, numgen loss, resets; tbf on both ends ]

Nothing of it reaches the machine's own network.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

CLONE_NEWNET = 0x40000000
CENTER = "10.231.0.1"
PREFIX = "campaign-c"
WEATHERS = ("parted", "deaf to the center", "center deaf", "loss", "slow link", "reset")
_DROP = "meta l4proto tcp drop"


class Network:
    """The namespaces of one site; `close` removes them."""

    def __init__(self, gateways: int) -> None:
        self._base = f"{PREFIX}{os.getpid()}"
        self._count = 0
        self.center = self._made("center")
        _in(self.center, "ip", "addr", "add", f"{CENTER}/32", "dev", "lo")
        for _ in range(gateways):
            self.add()

    def add(self) -> str:
        """One gateway more; returns the path of its namespace."""
        number = self._count
        self._count += 1
        place = self._made(f"g{number}")
        name = f"v{number}"
        _in(place, "ip", "link", "add", "up0", "type", "veth", "peer", "name", name, "netns", self.center)
        subnet = f"10.231.{number // 64 + 1}.{number % 64 * 4}"
        head = subnet.rpartition(".")
        near, far = f"{head[0]}.{int(head[2]) + 1}", f"{head[0]}.{int(head[2]) + 2}"
        for where, device, address in ((self.center, name, near), (place, "up0", far)):
            _in(where, "ip", "addr", "add", f"{address}/30", "dev", device)
            _in(where, "ip", "link", "set", device, "up")
        _in(place, "ip", "route", "add", f"{CENTER}/32", "via", near)
        return place

    def weather(self, number: int, kind: str, random: Random) -> None:
        """Makes the link of a gateway bad, `` for fair weather."""
        place = self.path(f"g{number}")
        inward = outward = ""
        match kind:
            case "parted":
                inward = outward = _DROP
            case "deaf to the center":
                inward = _DROP
            case "center deaf":
                outward = _DROP
            case "loss":
                inward = outward = f"numgen random mod 1000 < {random.choice([20, 100, 300])} drop"
            case "reset":
                outward = "meta l4proto tcp reject with tcp reset"
        rules = f"""
            table inet weather
            delete table inet weather
            table inet weather {{
                chain inward {{ type filter hook input priority 0; {inward}; }}
                chain outward {{ type filter hook output priority 0; {outward}; }}
            }}"""
        _in(place, "nft", "-f", "-", told=rules.replace("; ; }", "; }"))
        for where, device in ((place, "up0"), (self.center, f"v{number}")):
            if kind == "slow link":
                rate = random.choice(["64kbit", "256kbit", "1mbit"])
                shape = ["tbf", "rate", rate, "burst", "4kb", "latency", "800ms"]
                _in(where, "tc", "qdisc", "replace", "dev", device, "root", *shape)
            else:
                _in(where, "tc", "qdisc", "del", "dev", device, "root", fails=True)

    def path(self, name: str) -> str:
        return f"/run/netns/{self._base}{name}"

    def close(self) -> None:
        for number in range(self._count):
            _ip("netns", "del", f"{self._base}g{number}", fails=True)
        _ip("netns", "del", f"{self._base}center", fails=True)

    def _made(self, name: str) -> str:
        _ip("netns", "add", f"{self._base}{name}")
        place = self.path(name)
        _in(place, "ip", "link", "set", "lo", "up")
        return place


def missing() -> str:
    """What this machine lacks for it, "" for nothing: a program, or the right to use it."""
    if os.geteuid() != 0:
        return "root"
    lacking = [name for name in ("ip", "tc", "nft", "nsenter") if shutil.which(name) is None]
    if lacking:
        return ", ".join(lacking)
    sweep()
    network = None
    try:
        network = Network(1)
        for kind in (*WEATHERS, ""):
            network.weather(0, kind, Random(0))
    except OSError as error:
        return str(error)
    finally:
        if network is not None:
            network.close()
    return ""


def sweep() -> None:
    """Removes namespaces that runs that were killed have left."""
    folder = Path("/run/netns")
    for place in folder.glob(f"{PREFIX}*") if folder.is_dir() else ():
        maker = "".join(c for c in place.name.removeprefix(PREFIX).partition("g")[0].partition("c")[0] if c.isdigit())
        if maker and not Path("/proc", maker).exists():
            _ip("netns", "del", place.name, fails=True)


@contextlib.contextmanager
def entered(namespace: str | None) -> Iterator[None]:
    """This thread is in a namespace; None changes nothing."""
    if namespace is None:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    other = os.open(namespace, os.O_RDONLY)
    try:
        if libc.setns(other, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns", namespace)
        try:
            yield
        finally:
            libc.setns(own, CLONE_NEWNET)
    finally:
        os.close(own)
        os.close(other)


def _in(namespace: str, *words: str, told: str = "", fails: bool = False) -> None:
    _call("nsenter", f"--net={namespace}", *words, told=told, fails=fails)


def _ip(*words: str, fails: bool = False) -> None:
    _call("ip", *words, fails=fails)


def _call(*words: str, told: str = "", fails: bool = False) -> None:
    done = subprocess.run(words, input=told, capture_output=True, text=True, check=False)
    if done.returncode != 0 and not fails:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")

"""What goes wrong in a run, drawn from its seed: a few kinds of faults at a time, each at its own rate."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from tests.campaign.bad_disk import REFUSALS
from tests.campaign.gateway import Gateway
from tests.campaign.link import Weather
from tests.campaign.loop import SHORT_NS, WALL_NS, Life
from twinedge.spool.retention import POLICIES
from twinmodel.clock import MILLISECOND_NS, SECOND_NS
from twinsync.v1 import sync_pb2

if TYPE_CHECKING:
    from tests.campaign.world import World

KINDS = (
    "agent killed", "agent killed at a step", "center killed", "center killed at a step", "cut", "parted", "deaf",
    "loss", "repeat", "replay", "poison", "slow", "clone", "disk restored", "center restored", "clock jump", "credit 0",
    "schema change", "slow disk", "disk full", "disk read-only", "disk error", "disk dead", "device lost", "paused",
    "certificate expired", "key stolen", "suspended", "center disk",
)  # fmt: skip
EVERY_S = 2.0
POISON = 0.1
GATEWAYS_MAX = 3


@dataclass(frozen=True, slots=True)
class Only:
    """Narrows what a seed may draw, for a mutant that only certain faults can show.

    Attributes:
        policy: what a full disk does, "" for any.
    """

    kinds: tuple[str, ...] = ()
    large: bool = False
    policy: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed decides beforehand.

    Attributes:
        kinds: faults of this run.
        large: blocks are so large that the disk gets full.
    """

    kinds: frozenset[str]
    turns: int
    rate: float
    when_full: str
    large: bool
    disk_max_bytes: int
    pace_s: float
    reform: float
    window_bytes: int
    window_items: int
    pending_bytes: int
    backoff_cap_ns: int

    @property
    def slow(self) -> bool:
        """Whether what is under way may be so for long."""
        return bool(self.kinds & {"slow", "slow disk"})

    @staticmethod
    def of(random: Random, only: Only | None = None) -> Plan:
        kinds = frozenset(random.sample(KINDS, random.choice([1, 2, 3, 5, 8])))
        large = random.random() < 0.05
        if only is not None:
            kinds, large = frozenset(only.kinds), only.large
        small_window = random.random() < 0.3
        return Plan(
            kinds,
            turns=random.choice([4, 6, 12]) if not large and "certificate expired" not in kinds else 12,
            rate=random.choice([0.15, 0.3, 0.6]),
            when_full=only.policy if only is not None and only.policy else random.choice(POLICIES),
            large=large,
            disk_max_bytes=1 << 20,
            pace_s=random.choice([1.5, 3.0, 6.0]),
            reform=0.1 if "schema change" in kinds else 0.0,
            window_bytes=2_000 if small_window else 4 << 20,
            window_items=random.choice([1, 2, 5]) if small_window else 512,
            pending_bytes=400 if "credit 0" in kinds else 64 << 20,
            backoff_cap_ns=random.choice([2, 20]) * SECOND_NS,
        )


class Nemesis:
    """Acts every two seconds until its turns are over, then heals everything."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = Random(world.random.random())
        if "poison" in world.plan.kinds:
            world.network.spoil = self._spoil
        if "slow disk" in world.plan.kinds:
            world.loop.thread_delay_ns = (0, self.random.choice([200, 1_500]) * MILLISECOND_NS)

    async def run(self) -> None:
        world, plan = self.world, self.world.plan
        self._set_weather()
        if plan.large:
            # Long enough away that the disk gets full.
            world.network.weather.parted = True
            world.fault("parted")
        for turn in range(plan.turns):
            await asyncio.sleep(EVERY_S * self.random.uniform(0.5, 1.5))
            if plan.large and turn == plan.turns // 2:
                world.network.weather.parted = False
            for kind in sorted(plan.kinds):
                if self.random.random() < plan.rate:
                    self._act(kind)
            self._operate()
        self._heal()
        world.loop.create_task(self._mend())

    def _set_weather(self) -> None:
        random, kinds = self.random, self.world.plan.kinds
        self.world.network.weather = Weather(
            loss=random.choice([0.02, 0.1, 0.3]) if "loss" in kinds else 0.0,
            repeat=random.choice([0.05, 0.3]) if "repeat" in kinds else 0.0,
            replay=0.05 if "replay" in kinds else 0.0,
            delay_ns=random.choice([1, 6]) * SECOND_NS if "slow" in kinds else 20 * MILLISECOND_NS,
        )

    def _heal(self) -> None:
        self.world.network.weather = Weather()
        self.world.loop.thread_delay_ns = (0, 2 * MILLISECOND_NS)
        # Of one that is paused the coordinator shall find out by its silence.
        self.world.network.cut_all(*(life.name for life in self.world.loop.frozen))
        self.world.center.disk_fault = ""
        for gateway in self.world.gateways:
            if gateway.disk is not None:
                gateway.disk.fault = ""
        self.world.note("healed")

    async def _mend(self) -> None:
        """After the faults an operator looks on until all is well."""
        while True:
            await asyncio.sleep(5.0)
            self._operate()

    def _act(self, kind: str) -> None:
        """One fault; those that cannot come now are left out."""
        world = self.world
        gateway = self.random.choice(world.gateways)
        acted = {
            "agent killed": lambda: gateway.life.alive and gateway.kill(),
            "agent killed at a step": lambda: self._die_soon(gateway.life),
            "center killed": lambda: world.center.life.alive and world.center.kill(),
            "center killed at a step": lambda: self._die_soon(world.center.life),
            "cut": world.network.cut_all,
            "parted": lambda: self._mute(kind),
            "deaf": lambda: self._mute(kind),
            "clone": lambda: self._clone(gateway),
            "disk restored": lambda: self._restore_disk(gateway),
            "center restored": self._restore_center,
            "clock jump": lambda: self._jump(gateway),
            "paused": lambda: self._pause(gateway),
            "certificate expired": lambda: self._expire(gateway),
            "key stolen": lambda: world.center.revoke(gateway.name, gateway.certificate),
            "suspended": lambda: world.center.suspend(gateway.name, suspended=True),
            "center disk": self._fail_center,
            **{name: functools.partial(self._fail, gateway, name) for name in REFUSALS},
        }.get(kind, lambda: False)()
        if acted is not False:
            world.fault(kind)

    def _die_soon(self, life: Life) -> bool:
        if life.alive:
            life.kill_at = life.steps + self.random.randint(1, 30)
        return life.alive

    def _restore_disk(self, gateway: Gateway) -> bool:
        if gateway.snapshot is None or self.random.random() < 0.5:
            self._take_snapshot(gateway)
            return False
        gateway.restore()
        return True

    def _restore_center(self) -> bool:
        center = self.world.center
        if center.backup is None or self.random.random() < 0.5:
            center.back_up()
            return False
        return center.restore()

    def _jump(self, gateway: Gateway) -> None:
        gateway.clock.jump_ns += self.random.choice([-3_600, -5, 5, 86_400, -1_600_000_000]) * SECOND_NS

    def _fail(self, gateway: Gateway, fault: str) -> bool:
        """A disk refuses for some seconds; kills do not heal it."""
        disk = gateway.disk
        if disk is None or disk.fault:
            return False
        disk.fault = fault
        self._later(self.random.uniform(1, 12), lambda: setattr(disk, "fault", ""))
        return True

    def _fail_center(self) -> bool:
        center = self.world.center
        if center.disk_fault:
            return False
        center.disk_fault = self.random.choice(["STORE_FULL", "STORE_SYNC_FAILED", "STORE_READ_ONLY"])
        self._later(self.random.uniform(1, 12), lambda: setattr(center, "disk_fault", ""))
        return True

    def _later(self, seconds: float, heal: Callable[[], None]) -> None:
        self.world.loop.call_at(self.world.loop.now_ns / SECOND_NS + seconds, heal)

    def _pause(self, gateway: Gateway) -> bool:
        """SIGSTOP, and SIGCONT a minute later."""
        if not gateway.life.alive or gateway.life in self.world.loop.frozen:
            return False
        life = gateway.life
        self.world.loop.freeze(life, 60.0)

        def look() -> None:
            if life is gateway.life and life in self.world.loop.frozen:
                self.world.center.check_silent(gateway)

        self._later(45.0, look)
        return True

    def _expire(self, gateway: Gateway) -> bool:
        """A certificate that ends soon takes the place of the one that lasts."""
        if gateway.certificate != "first" or self.world.center.clock.wall_ns() > WALL_NS + SHORT_NS:
            return False
        gateway.renew("short")
        self.world.network.cut_all()
        return True

    def _mute(self, kind: str) -> None:
        world = self.world
        before = world.network.weather
        change = {"parted": True} if kind == "parted" else {"deaf": self.random.choice(["up", "down"])}
        world.network.weather = replace(before, **change)
        end_ns = world.loop.now_ns + self.random.randint(1, 25) * SECOND_NS

        def clear() -> None:
            if not world.healed:
                world.network.weather = replace(world.network.weather, parted=False, deaf="")

        world.loop.call_at(end_ns / SECOND_NS, clear)

    def _clone(self, gateway: Gateway) -> bool:
        world = self.world
        if len(world.gateways) >= GATEWAYS_MAX or not gateway.folder.exists() or not gateway.copyable:
            return False
        folder = world.root / f"clone{world.made}"
        gateway.copy(folder)
        clone = Gateway(world, folder, gateway.name)
        clone.form = gateway.form
        clone.adopt(gateway.lanes())
        world.add(clone)
        return True

    def _take_snapshot(self, gateway: Gateway) -> None:
        if (
            gateway.life.alive
            and gateway.copyable
            and (gateway.folder / "spool.db").exists()
            and (gateway.folder / "boots").exists()
        ):
            gateway.images += 1
            gateway.snapshot = self.world.root / f"image{gateway.number}-{gateway.images}"
            gateway.copy(gateway.snapshot)

    def _operate(self) -> None:
        """The operator ends forks and lets in whom a restored coordinator forgot."""
        world = self.world
        if not world.center.life.alive or world.center.disk_fault:
            return
        for gateway in world.gateways:
            uplink = gateway.uplink
            status = uplink.status() if uplink is not None else None
            self._care_for_certificate(gateway, status.reason if status is not None else "")
            if uplink is None or status is None or not status.needs_operator:
                continue
            shared = any(other is not gateway and other.name == gateway.name for other in world.gateways)
            if status.reason == "IDENTITY_FORK" and shared:
                world.names += 1
                gateway.name = f"gw-{world.names}"
            if status.reason == "SUSPENDED":
                if not world.healed and self.random.random() < 0.7:
                    continue
                world.center.suspend(gateway.name, suspended=False)
            elif not status.reason.startswith("CERT_"):
                world.center.invite(gateway.name)
            world.history.faults[status.reason] += 1
            uplink.retry_now()

    def _care_for_certificate(self, gateway: Gateway, reason: str) -> None:
        """A new one for a gateway whose certificate has ended, as it fetches by itself, or was revoked."""
        center = self.world.center
        ended = gateway.certificate == "short" and center.clock.wall_ns() > WALL_NS + SHORT_NS
        if ended and (self.world.healed or reason == "CERT_EXPIRED"):
            gateway.renew("renewed")
        elif reason == "CERT_INVALID":
            # Whoever has the stolen key has the stolen certificate, too.
            self.world.certificates += 1
            gateway.renew(f"certificate-{self.world.certificates}")

    def _spoil(self, raw: bytes) -> bytes:
        """An `Items` message in which some blocks cannot be read, now and whenever they come again."""
        world = self.world
        up = sync_pb2.Up.FromString(raw)
        for item in up.items.items if up.HasField("items") else ():
            key = (item.boot, item.stream - 1, item.first_seq)
            if not item.HasField("block"):
                continue
            if key not in world.history.poisoned and not world.healed and self.random.random() < POISON:
                world.history.poisoned.add(key)
                world.fault("poison")
            if key in world.history.poisoned:
                payload = bytearray(item.block.payload)
                payload[-1] ^= 0xFF
                item.block.payload = bytes(payload)
        return up.SerializeToString()

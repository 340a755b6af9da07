"""The coordinator of a site: `twincloud serve` on a disk of its own, what can happen to it, and its operator."""

from __future__ import annotations

import json
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.campaign.disks import Disk
from tests.campaign.history import Lane
from tests.campaign.netns import CENTER, entered
from tests.campaign.nursery import Child
from tests.e2e.plant import join_line
from twincloud.storage.directory import DATABASE
from twinsim.deployment.operator import Operator

if TYPE_CHECKING:
    from tests.campaign.site import Site

TENANT, SITE = "default", "north"
CENTER_MIB = 512


@dataclass(frozen=True, slots=True)
class Ground:
    """What this machine lets a campaign do.

    Attributes:
        mounts: disks are ext4 in a file, whose power can go.
        links: gateways stand in network namespaces.
        memory: image files lie in memory.
        copies: some sites know clones and old images.
    """

    mounts: bool
    links: bool
    memory: bool = True
    copies: bool = True


class Place:
    """Where a program keeps its state: a disk, or a plain folder when nothing may be mounted."""

    def __init__(self, root: Path, name: str, ground: Ground, mib: int, kind: str = "ext4") -> None:
        self.disk = Disk(root, name, mib=mib, kind=kind) if ground.mounts else None
        self.path = self.disk.path if self.disk is not None else root / name
        self.path.mkdir(exist_ok=True)

    @property
    def cuttable(self) -> bool:
        return self.disk is not None and self.disk.kind == "ext4"

    def close(self) -> None:
        if self.disk is not None:
            self.disk.close()


class Center:
    """The coordinator."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.place = Place(site.root, "center", site.ground, CENTER_MIB)
        self.state = self.place.path / "state"
        self.lock = threading.Lock()
        self.namespace = site.network.center if site.network is not None else None
        self.child: Child | None = None
        self.ports: dict[str, int] = {}
        words = ["init", "--state", str(self.state), *self._names()]
        token = site.nursery.run("twincloud", words, "init", self.namespace).strip()
        self.operator = Operator("", TENANT, token)

    def _names(self) -> list[str]:
        return ["--name", CENTER] if self.namespace is not None else []

    def start(self) -> None:
        ready = self.site.root / "center.json"
        ready.unlink(missing_ok=True)
        words = ["serve", "--state", str(self.state), "--ready-file", str(ready), "--log", "warning", *self._names()]
        if self.namespace is not None:
            words += ["--gateway-host", CENTER]
        for option in ("port", "sync-port", "enrol-port"):
            words += [f"--{option}", str(self.ports.get(option, 0))]
        self.child = self.site.nursery.start("twincloud", words, "center", self.namespace)
        child = self.child
        self.site.until(lambda: ready.exists() or not child.running, "the coordinator is not ready")
        if not child.running:
            raise AssertionError(f"the coordinator ended with {child.code}: {child.last_words()}")
        facts = json.loads(ready.read_text())
        self.operator.url = facts["rest"]
        places = {"port": facts["rest"], "sync-port": facts["sync"], "enrol-port": facts["enrol"]}
        self.ports = {option: int(place.rpartition(":")[2]) for option, place in places.items()}

    def join(self, name: str, identity: Path) -> None:
        """The operator invites a gateway, anew or again; it joins, and a fork of it ends."""
        self.site.note(f"{name} joins")
        with self.lock:
            with entered(self.namespace):
                invited = self.operator.call("POST", "gateways:invite", body={"site": SITE, "gateway": name})
            words = [*join_line(invited)[1:], "--state", str(identity)]
            self.site.nursery.run("twinedge", words, f"join-{name}", self.namespace)

    def kill(self) -> None:
        with self.lock:
            self._end()
            self.start()

    def cut(self) -> None:
        disk = self.place.disk
        assert disk is not None
        with self.lock:
            assert self.child is not None
            self.child.halt()
            disk.cut()
            self._end()
            disk.close()
            disk.mount()
            self.start()

    def pause(self, seconds: float) -> None:
        with self.lock:
            assert self.child is not None
            self.child.signal(signal.SIGSTOP)
            time.sleep(seconds)
            self.child.signal(signal.SIGCONT)

    def fill(self, seconds: float) -> None:
        disk = self.place.disk
        assert disk is not None
        with self.lock:
            disk.fill()
            time.sleep(seconds)
            disk.free()

    def back_up(self, image: Path) -> None:
        """A copy of the whole disk."""
        self._with_image(lambda disk: disk.save(image))

    def restore(self, image: Path) -> None:
        """An older disk takes the place of the present one."""

        def change(disk: Disk) -> None:
            disk.load(image)
            for excuse in self.site.history.excused:
                excuse.restored_after = True

        self._with_image(change)

    def _with_image(self, work: Callable[[Disk], None]) -> None:
        disk = self.place.disk
        assert disk is not None
        with self.lock:
            self._end()
            work(disk)
            self.start()

    def _end(self) -> None:
        assert self.child is not None
        if not self.child.running:
            self.site.fail(f"the coordinator ended by itself with {self.child.code}: {self.child.last_words()}")
        self.child.kill()

    def marks(self) -> dict[Lane, int]:
        """What is committed now."""
        with closing(sqlite3.connect(f"file:{self.state / DATABASE}?mode=ro", uri=True)) as db:
            rows = db.execute("SELECT boot, stream, next_seq FROM marks JOIN boots ON boots.id = marks.boot_id")
            found: dict[Lane, int] = {}
            for boot, stream, next_seq in rows:
                found[boot, stream] = max(next_seq, found.get((boot, stream), 0))
            return found

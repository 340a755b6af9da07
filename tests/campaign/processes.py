"""Layer C: real processes over mTLS on a real file system: kills, power cuts, pauses, a disk filled by somebody else.

The coordinator is `twincloud serve`, the gateway joined by `twinedge join` runs production's spool and uplink
(`feeder`). Its disk is ext4 in a file when root may mount one, and its power goes by FS_IOC_SHUTDOWN, which loses what
was not synced; else kills alone are tried, and the summary says so.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

import msgpack

from tests.campaign.history import History, Promise
from tests.campaign.reading import Coordinator
from tests.e2e.plant import join_line
from twinsim.demo.operator import Operator
from twinsim.demo.processes import Program, ended_together, run

SITE, NAME = "north", "gw-1"
START_S, DRAIN_S = 60.0, 120.0
VALUES_PER_LIFE = 10_000_000
FS_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
DISK_MIB = 48


class Disk:
    """The gateway's file system; without root a plain folder, whose power cannot go."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "disk"
        self.path.mkdir()
        self._image = folder / "disk.img"
        self.cuttable = False
        if os.geteuid() == 0 and shutil.which("mkfs.ext4"):
            with self._image.open("wb") as file:
                file.truncate(DISK_MIB << 20)
            made = subprocess.run(["mkfs.ext4", "-q", "-F", str(self._image)], capture_output=True, check=False)
            self.cuttable = made.returncode == 0 and self._mount()

    def _mount(self) -> bool:
        done = subprocess.run(
            ["mount", "-o", "loop", str(self._image), str(self.path)], capture_output=True, check=False
        )
        return done.returncode == 0

    def cut(self) -> None:
        """No power from now on: nothing that was not synced is written any more."""
        handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, FS_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(handle)

    def repair(self) -> None:
        """Power is back: the journal is replayed."""
        self.close()
        if not self._mount():
            raise OSError(f"{self._image} cannot be mounted again")

    def close(self) -> None:
        if self.cuttable:
            subprocess.run(["umount", str(self.path)], check=True)

    def fill(self) -> None:
        with (self.path / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))

    def free(self) -> None:
        (self.path / "ballast").unlink(missing_ok=True)


class Site:
    """A coordinator, a gateway and what happens to them."""

    def __init__(self, seed: int, root: Path) -> None:
        self.random = Random(seed)
        self.root = root
        self.logs = root / "logs"
        self.history = History()
        self.disk = Disk(root)
        self.programs: list[Program] = []
        self.lives = 0
        self.ports: dict[str, int] = {}
        self.center: Program | None = None
        self.feeder: Program | None = None
        self.promises = root / "promises"

    def start(self) -> None:
        state = str(self.root / "center")
        token = run("init", ["twincloud", "init", "--state", state], self.logs).strip()
        operator = Operator("", "default", token)
        operator.url = self.start_center()
        invited = operator.call("POST", "gateways:invite", body={"site": SITE, "gateway": NAME})
        run("join", [*join_line(invited), "--state", str(self.root / "identity")], self.logs)
        self.start_feeder()

    def start_center(self) -> str:
        ready = self.root / "center.json"
        words = ["twincloud", "serve", "--state", str(self.root / "center"), "--ready-file", str(ready)]
        for option in ("port", "sync-port", "enrol-port"):
            words += [f"--{option}", str(self.ports.get(option, 0))]
        self.center = self._program("center", words, ready)
        facts = self.center.wait_ready(START_S)
        places = {"port": facts["rest"], "sync-port": facts["sync"], "enrol-port": facts["enrol"]}
        self.ports = {option: int(place.rpartition(":")[2]) for option, place in places.items()}
        return str(facts["rest"])

    def start_feeder(self) -> None:
        self.lives += 1
        words = [
            "tests.campaign.feeder", str(self.disk.path / "state"), str(self.root / "identity"), str(self.promises),
            str(self.lives * VALUES_PER_LIFE), str(self.random.choice([0.002, 0.02, 0.1])),
        ]  # fmt: skip
        self.feeder = self._program("feeder", words, None)
        self._wait_promise()

    def _program(self, name: str, words: list[str], ready: Path | None) -> Program:
        self.programs = [program for program in self.programs if program.running]
        made = Program(name, words, self.logs, ready=ready)
        self.programs.append(made)
        return made

    def _wait_promise(self) -> None:
        """Until the new life has stored something."""
        before, end_s = self._promised(), time.monotonic() + START_S
        while self._promised() == before:
            if time.monotonic() > end_s or self.feeder is None or not self.feeder.running:
                raise AssertionError(f"the gateway stores nothing: {self.feeder and self.feeder.last_words()}")
            time.sleep(0.01)

    def _promised(self) -> int:
        return self.promises.stat().st_size if self.promises.exists() else 0

    def act(self) -> None:
        """Lets them run for a moment, then does one thing to them."""
        assert self.feeder is not None
        assert self.center is not None
        time.sleep(self.random.uniform(0.05, 0.8))
        kinds = ["agent killed", "agent killed", "center killed", "paused"]
        kinds += ["power cut"] * 4 + ["disk full"] if self.disk.cuttable else []
        kind = self.random.choice(kinds)
        self.history.faults[kind] += 1
        match kind:
            case "agent killed":
                self.feeder.kill()
                self.start_feeder()
            case "center killed":
                self.center.kill()
                self.start_center()
            case "paused":
                self.feeder.signal(signal.SIGSTOP)
                time.sleep(2.0)
                self.feeder.signal(signal.SIGCONT)
            case "power cut":
                self.disk.cut()
                self.feeder.kill()
                self.disk.repair()
                self.start_feeder()
            case "disk full":
                self.disk.fill()
                time.sleep(1.0)
                self.disk.free()

    def end(self) -> History:
        """Stops feeding, waits until all is sent, and reads what came of it."""
        assert self.feeder is not None
        assert self.center is not None
        begun_s = time.monotonic()
        self.feeder.signal(signal.SIGTERM)
        self.feeder.join(DRAIN_S)
        self.history.waiting[NAME] = int(self.feeder._child.returncode != 0)
        self.history.recoveries_ns.append(int((time.monotonic() - begun_s) * 1e9))
        self.center.stop()
        with self.promises.open("rb") as file:
            for boot, stream, first_seq, samples in msgpack.Unpacker(file):
                self.history.promised.append(Promise((boot, stream), first_seq, tuple(map(tuple, samples))))
        for gateway, (items, losses, _) in Coordinator(self.root / "center" / "coordinator.db").read().items():
            self.history.held[gateway], self.history.losses[gateway] = items, losses
        return self.history


def run_processes(seed: int, seconds: float = 60.0) -> History:
    """One site for so long; ends with its drain."""
    root = Path(tempfile.mkdtemp(prefix="campaign-"))
    site = Site(seed, root)
    try:
        with contextlib.ExitStack() as stack:
            stack.callback(site.disk.close)
            stack.enter_context(_all_ended(site))
            site.start()
            end_s = time.monotonic() + seconds
            while time.monotonic() < end_s:
                site.act()
            return site.end()
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def _all_ended(site: Site):
    try:
        yield
    finally:
        with ended_together(site.programs):
            for program in site.programs:
                program.signal(signal.SIGCONT)


def kinds_of(history: History) -> Counter[str]:
    """Faults of a run."""
    return history.faults

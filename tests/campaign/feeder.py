"""A gateway without devices as a process of its own: production's spool and uplink, fed as fast as it is told.

What an append returned for is in a log outside of its disk before the next one. SIGTERM ends the feeding; the process
ends when everything is acknowledged. SIGHUP: there is a new certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import msgpack
import numpy as np

from tests.campaign.gateway import FORMS
from tests.cloud.ingest.memory import SilentDownlink
from twinedge.enrol import load_identity
from twinedge.spool.store import Spool
from twinedge.storage import Storage
from twinedge.uplink.sender import Uplink
from twinedge.uplink.spooled import SpooledItems
from twinmodel.clock import SECOND_NS, ClockQuality, SystemClock
from twinmodel.errors import StorageError, TwinError
from twinmodel.signal import Batch, Kind, Stream
from twinsync.backoff import Backoff
from twinsync.channel import Credentials

LOOK_S = 0.02
COUNT_MAX, LARGE = 40, (2_000, 5_000)


@dataclass(frozen=True, slots=True)
class Feed:
    """What one life of a gateway does.

    Attributes:
        state: on the disk that things happen to.
        identity: certificate and key.
        promises: log of what was stored in this life, elsewhere.
        told: log of what the gateway says about itself, elsewhere.
        first: value of its first sample; each one is greater by one.
        pace_s: between two appends.
        large: blocks are so large and so hard to compress that the disk gets full.
    """

    state: str
    identity: str
    promises: str
    told: str
    first: int
    pace_s: float
    when_full: str
    disk_bytes: int
    large: bool = False

    def words(self) -> list[str]:
        """As arguments of a command."""
        return [json.dumps(asdict(self))]


class Words:
    """The log of what the gateway says about itself: each thing once until it changes."""

    def __init__(self, path: str) -> None:
        self._sink = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._last: dict[str, object] = {}

    def tell(self, what: str, fact: object) -> None:
        if self._last.get(what) != fact:
            self._last[what] = fact
            os.write(self._sink, json.dumps({what: fact}).encode() + b"\n")


class WatchedItems(SpooledItems):
    """Tells when a coordinator knows less than it had acknowledged."""

    words: Words
    times = 0

    async def rewind(self, marks) -> None:
        before = await self._storage.call(_acknowledged)
        await super().rewind(marks)
        after = await self._storage.call(_acknowledged)
        if any(after[lane] < acked for lane, acked in before.items() if lane in after):
            self.times += 1
            self.words.tell("SERVER_REGRESSED", self.times)


def _acknowledged(spool: Spool) -> dict[tuple[int, int], int]:
    return {(lane.boot, lane.stream): lane.acked_seq for lane in spool._file.read(spool._lanes)}


def _dropped(spool: Spool) -> int:
    return sum(line.samples for line in spool.ledger())


class Feeder:
    """Appends samples and logs what was stored."""

    def __init__(self, feed: Feed, clock: SystemClock, words: Words) -> None:
        self._feed = feed
        self._clock = clock
        self._words = words
        self._sink = os.open(feed.promises, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._value = feed.first
        self.random = random.Random(feed.first)

    async def opened(self) -> Storage:
        """Tries until the disk lets it: one that is full or read-only is no reason to give up."""
        while True:
            try:
                return await Storage.open(self._open)
            except TwinError as error:
                self._words.tell("start", error.reason)
                await asyncio.sleep(0.1)

    def _open(self) -> Spool:
        feed = self._feed
        return Spool.open(
            Path(feed.state), clock=self._clock, rng_bytes=os.urandom, disk_max_bytes=feed.disk_bytes,
            when_full=feed.when_full,
        )  # fmt: skip

    def store(self, spool: Spool) -> None:
        """In the thread of the spool: what returns from it is promised."""
        chance, large = self.random, self._feed.large
        stream = chance.choices(list(Stream), [1, 2, 4, 1])[0]
        large = large and stream is not Stream.ALARM
        count = chance.randint(*LARGE) if large else chance.randint(1, COUNT_MAX)
        ids = [signal.id for signal in FORMS[0].signals if signal.stream is stream]
        t_ns = self._clock.wall_ns() // 1_000_000 * 1_000_000 + np.arange(count) * 1_000_000
        value = np.arange(self._value, self._value + count, dtype=float)
        if large:
            value += np.random.default_rng(self._value).random(count)
        self._value += count
        column = np.full(count, chance.choice(ids), np.uint32)
        batch = Batch(Kind.FLOAT, column, value, np.zeros(count, np.uint16), t_ns)
        first_seq = spool._next.get(stream, 0)
        try:
            spool.append(stream, [batch], FORMS[0])
        except StorageError as refused:
            self._words.tell("store", refused.reason)
            if "declared" not in refused.facts:
                return
        else:
            self._words.tell("store", "")
        name = FORMS[0].signals[int(column[0])].name
        promised = [spool.boot.id, int(stream), first_seq, name, t_ns.tobytes(), value.tobytes()]
        os.write(self._sink, msgpack.packb(promised))
        if large and (dropped := _dropped(spool)):
            self._words.tell("dropped", dropped)


async def live(feed: Feed) -> None:
    """One life, from its boot to SIGTERM and until nothing waits."""
    clock, over = SystemClock(), asyncio.Event()
    words = Words(feed.told)
    feeder = Feeder(feed, clock, words)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    storage = await feeder.opened()
    items = WatchedItems(storage, lambda: ClockQuality.FREE)
    items.words = words
    with contextlib.suppress(StorageError):
        await items.use(FORMS[0])

    def credentials() -> Credentials:
        known = load_identity(Path(feed.identity), clock)
        return Credentials(known.ca_pem, known.cert_pem, known.key_pem)

    uplink = Uplink(
        load_identity(Path(feed.identity), clock).sync_address, credentials, items, SilentDownlink(), clock=clock,
        random=feeder.random, agent_version="1",
        backoff=Backoff(feeder.random, base_ns=SECOND_NS // 20, cap_ns=SECOND_NS // 2),
    )  # fmt: skip
    loop.add_signal_handler(signal.SIGHUP, uplink.retry_now)
    async with asyncio.TaskGroup() as group:
        helpers = [group.create_task(uplink.run()), group.create_task(_tell_status(uplink, words))]
        while not over.is_set():
            await storage.call(feeder.store)
            uplink.wake()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(feed.pace_s):
                    await over.wait()
        while await _waiting(storage):
            uplink.wake()
            await asyncio.sleep(0.05)
        for helper in helpers:
            helper.cancel()
    words.tell("dropped", await storage.call(_dropped))
    await storage.close()


async def _tell_status(uplink: Uplink, words: Words) -> None:
    while True:
        status = uplink.status()
        words.tell("connected", status.connected)
        words.tell("reason", [status.reason, status.needs_operator])
        await asyncio.sleep(LOOK_S)


async def _waiting(storage: Storage) -> bool:
    try:
        return bool(await storage.call(Spool.ranges))
    except StorageError:
        return True


def main(words: list[str]) -> int:
    """A program of `nursery`."""
    asyncio.run(live(Feed(**json.loads(words[0]))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

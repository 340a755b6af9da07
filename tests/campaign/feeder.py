"""A gateway without devices as a process of its own: production's spool and uplink, fed as fast as it is told.

python -m tests.campaign.feeder STATE IDENTITY LOG FIRST PACE_S; what an append returned for is in LOG before the next.
SIGTERM ends the feeding; the process ends when everything is acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from pathlib import Path

import msgpack
import numpy as np

from tests.campaign.gateway import FORMS
from tests.campaign.reading import samples_in
from tests.cloud.ingest.memory import SilentDownlink
from twinedge.enrol import load_identity
from twinedge.spool.store import Spool
from twinedge.storage import Storage
from twinedge.uplink.sender import Uplink
from twinedge.uplink.spooled import SpooledItems
from twinmodel.clock import SECOND_NS, ClockQuality, SystemClock
from twinmodel.errors import StorageError
from twinmodel.signal import Batch, Kind, Stream
from twinsync.backoff import Backoff
from twinsync.channel import Credentials

DISK_BYTES = 1 << 22


async def feed(state: Path, identity: Path, log: Path, first: int, pace_s: float) -> None:
    clock, chance = SystemClock(), random.Random(first)
    known = load_identity(identity, clock)
    shown = Credentials(known.ca_pem, known.cert_pem, known.key_pem)
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)

    def opened() -> Spool:
        return Spool.open(state, clock=clock, rng_bytes=os.urandom, disk_max_bytes=DISK_BYTES, when_full="thin")

    storage = await Storage.open(opened)
    items = SpooledItems(storage, lambda: ClockQuality.FREE)
    with contextlib.suppress(StorageError):
        await items.use(FORMS[0])
    uplink = Uplink(
        known.sync_address, lambda: shown, items, SilentDownlink(), clock=clock, random=chance, agent_version="1",
        backoff=Backoff(chance, base_ns=SECOND_NS // 20, cap_ns=SECOND_NS // 2),
    )  # fmt: skip
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    value = first

    def store(spool: Spool, stream: Stream, count: int) -> bool:
        ids = [signal.id for signal in FORMS[0].signals if signal.stream is stream]
        t_ns = clock.wall_ns() // 1_000_000 * 1_000_000 + np.arange(count) * 1_000_000
        column = np.full(count, chance.choice(ids), np.uint32)
        batch = Batch(
            Kind.FLOAT, column, np.arange(value, value + count, dtype=float), column.astype(np.uint16) * 0, t_ns
        )
        try:
            first_seq, _ = spool.append(stream, [batch], FORMS[0])
        except StorageError:
            return False
        os.write(sink, msgpack.packb([spool.boot.id, int(stream), first_seq, list(samples_in([batch], FORMS[0]))]))
        return True

    async with asyncio.TaskGroup() as group:
        sending = group.create_task(uplink.run())
        while not over.is_set():
            count = chance.randint(1, 40)
            if await storage.call(store, chance.choice(list(Stream)), count):
                value += count
                uplink.wake()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pace_s):
                    await over.wait()
        while await storage.call(Spool.ranges):
            uplink.wake()
            await asyncio.sleep(0.05)
        sending.cancel()
    await storage.close()


if __name__ == "__main__":
    where, who, told, begin, pace = sys.argv[1:]
    asyncio.run(feed(Path(where), Path(who), Path(told), int(begin), float(pace)))

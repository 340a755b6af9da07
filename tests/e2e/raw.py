"""A gateway that speaks the protocol by hand, for what no agent of ours would say."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.plant import Plant
from twinedge.enrol import load_identity
from twinmodel.clock import SECOND_NS, ClockQuality
from twinmodel.signal import Batch, Catalogue, Kind, Signal, Stream
from twinsync import block
from twinsync.channel import Credentials
from twinsync.envelope import down_from_proto
from twinsync.item import Block, Boot, Item
from twinsync.session.messages import PROTOCOL, Hello

BOOT = bytes(range(16))
CATALOGUE = Catalogue((Signal(0, "press.level", Kind.FLOAT, "m", Stream.STATE, exponent=3),))
BLOCK_SAMPLES = 3


def credentials(plant: Plant, state: Path) -> Credentials:
    """What a gateway that has joined shows."""
    identity = load_identity(state, plant.clock)
    return Credentials(identity.ca_pem, identity.cert_pem, identity.key_pem)


def hello(now_ns: int) -> Hello:
    """The first word of the first boot."""
    boots = (Boot(BOOT, b"", 1, now_ns, ClockQuality.FREE),)
    return Hello(PROTOCOL, PROTOCOL, "raw", boots, (), now_ns, now_ns, ClockQuality.FREE, (), (CATALOGUE.digest,))


def item(first: int, now_ns: int, *, broken: bool) -> Item:
    """A block of samples numbered from `first` on, whose values are their numbers; a broken one has a bit turned."""
    numbers = range(first, first + BLOCK_SAMPLES)
    t_ns = [now_ns + n * SECOND_NS for n in numbers]
    batch = Batch.of(Kind.FLOAT, [0] * BLOCK_SAMPLES, [float(n) for n in numbers], [0] * BLOCK_SAMPLES, t_ns)
    made = block.encode([batch], CATALOGUE)
    payload = bytes(made.payload)
    if broken:
        payload = payload[:-1] + bytes([payload[-1] ^ 0xFF])
    content = Block(CATALOGUE.digest, made.crc32c, payload, t_ns[0], t_ns[-1])
    return Item(BOOT, Stream.STATE, first, first + BLOCK_SAMPLES - 1, content)


async def next_of(call, kind):
    """The next message of one kind; others pass."""
    while True:
        down = down_from_proto(await call.read())
        if isinstance(down, kind):
            return down

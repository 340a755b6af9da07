"""The network in virtual time: stands for gRPC between production's sender and servicer, message by message as bytes.

Inside a connection bytes keep their order. A connection that is cut loses what is under way, and either end finds out
at once, late or by silence. Beyond what TCP does, single messages may get lost, come twice or come out of an older
connection: the session must bear that, too.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Self

import grpc.aio

from tests.campaign.loop import LIFE, Life, VirtualLoop
from twinmodel.clock import MILLISECOND_NS, SECOND_NS
from twinsync.v1 import sync_pb2

REPLAYED_MAX = 32
CATALOGUE_TAG = b"\x12"
"""First byte of an `Up` with a catalogue: field 2, length-delimited."""


@dataclass(slots=True)
class Weather:
    """How bad the network is now; rates by message.

    Attributes:
        deaf: the direction that is swallowed, "up", "down" or "".
        parted: nothing gets through and no connection opens.
    """

    loss: float = 0.0
    repeat: float = 0.0
    replay: float = 0.0
    delay_ns: int = 5 * MILLISECOND_NS
    deaf: str = ""
    parted: bool = False


class Network:
    """All connections; `accept` serves a new one."""

    def __init__(self, loop: VirtualLoop, random: Random, told: Callable[[str], None]) -> None:
        self.loop = loop
        self.random = random
        self.weather = Weather()
        self.accept: Callable[[Pipe], None] = lambda pipe: pipe.cut()
        self.pipes: list[Pipe] = []
        self.faults: Counter[str] = Counter()
        self.told = told
        # TLS lets nobody in whose certificate has ended; the gateway is told no reason.
        self.hears: Callable[[bytes], None] = lambda _: None
        self.is_over: Callable[[bytes], bool] = lambda _: False
        self.spoil: Callable[[bytes], bytes] = lambda raw: raw

    def connect(self, name: str, certificate: bytes) -> Pipe:
        pipe = Pipe(self, name, certificate)
        self.pipes = [other for other in self.pipes if other.open]
        self.pipes.append(pipe)
        if self.weather.parted or self.is_over(certificate):
            pipe.refuse()
        else:
            self.accept(pipe)
        return pipe

    def cut_all(self, *spared: str) -> None:
        for pipe in list(self.pipes):
            if pipe.name not in spared:
                pipe.cut()


class Pipe:
    """One connection: two directions, each in order."""

    def __init__(self, network: Network, name: str, certificate: bytes) -> None:
        self.network = network
        self.name = name
        self.certificate = certificate
        self.open = True
        self.ends = {"up": End(self, "up"), "down": End(self, "down")}
        self.server: asyncio.Task[None] | None = None
        self._sent_up: deque[bytes] = deque(maxlen=REPLAYED_MAX)

    def send(self, way: str, raw: bytes) -> None:
        """Takes a message; it arrives at the other end, or not."""
        net, weather = self.network, self.network.weather
        if not self.open:
            return
        if weather.parted or weather.deaf == way:
            self.ends[way].dead = True  # what follows would need what is missing: nothing comes through any more
        # A connection never loses a single message; blocks whose catalogue alone got lost would be dead letters.
        lost = net.random.random() < weather.loss and not (way == "up" and raw[:1] == CATALOGUE_TAG)
        if self.ends[way].dead or lost:
            net.faults["message lost"] += 1
            return
        if way == "up":
            self._sent_up.append(raw)
            raw = net.spoil(raw)
        self._deliver(way, raw)
        if net.random.random() < weather.repeat:
            net.faults["message twice"] += 1
            self._deliver(way, raw)
        if way == "up" and net.random.random() < weather.replay:
            others = [old for pipe in net.pipes for old in pipe._sent_up]
            net.faults["replay"] += 1
            self._deliver(way, net.random.choice(others))

    def _deliver(self, way: str, raw: bytes) -> None:
        end = self.ends[way]
        at_ns = self.network.loop.now_ns + self.network.random.randint(0, self.network.weather.delay_ns)
        # In order, however the delays fall.
        end.last_ns = max(end.last_ns + 1, at_ns)
        self.network.loop.call_at(end.last_ns / SECOND_NS, end.arrive, raw)

    def cut(self) -> None:
        """Loses what is under way; both ends find out, each in its time."""
        if self.open:
            self.open = False
            for end in self.ends.values():
                delay_ns = self.network.random.choice([0, 0, 300, 4_000]) * MILLISECOND_NS
                self.network.loop.call_at((self.network.loop.now_ns + delay_ns) / SECOND_NS, end.hang_up)

    def refuse(self) -> None:
        self.open = False
        self.ends["down"].hang_up()


class End:
    """Where messages of one direction arrive."""

    def __init__(self, pipe: Pipe, way: str) -> None:
        self.pipe = pipe
        self.way = way
        self.last_ns = 0
        self.over = False
        self.dead = False
        self._arrived: deque[bytes] = deque()
        self._news = asyncio.Event()

    def arrive(self, raw: bytes) -> None:
        if self.pipe.open and not self.over:
            self.pipe.network.told(f"{self.pipe.name} {self.way} {len(raw)}")
            self._arrived.append(raw)
            self._news.set()

    def finish(self) -> None:
        """The other end has said all it had to say."""
        self.over = True
        self._news.set()

    def hang_up(self) -> None:
        """The connection broke: what was not read is gone."""
        self._arrived.clear()
        self.finish()
        server = self.pipe.server
        if self.way == "up" and server is not None and not server.done() and self.pipe.network.random.random() < 0.5:
            server.cancel()  # gRPC cancels the handler of a call that is gone

    async def read(self) -> bytes | None:
        """The next message, None at the end."""
        while not self._arrived:
            if self.over:
                return None
            self._news.clear()
            await self._news.wait()
        return self._arrived.popleft()


def _step() -> None:
    life: Life | None = LIFE.get()
    if life is not None and not life.step():
        raise asyncio.CancelledError


class Call:
    """The gateway's end, as `grpc.aio.StreamStreamCall`."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    async def write(self, up: sync_pb2.Up) -> None:
        _step()
        if not self._pipe.open and self._pipe.ends["down"].over:
            raise asyncio.InvalidStateError("the call is over")
        self._pipe.send("up", up.SerializeToString())

    async def read(self):
        raw = await self._pipe.ends["down"].read()
        return grpc.aio.EOF if raw is None else sync_pb2.Down.FromString(raw)

    async def details(self) -> str:
        return "the link was cut"

    def cancel(self) -> None:
        self._pipe.cut()


class Context:
    """The coordinator's end, as `grpc.aio.ServicerContext`."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_pem_cert": [self._pipe.certificate]}

    def peer(self) -> str:
        return self._pipe.name

    async def write(self, down: sync_pb2.Down) -> None:
        _step()
        if self._pipe.ends["up"].over:
            raise asyncio.InvalidStateError("the call is over")
        self._pipe.send("down", down.SerializeToString())

    async def read(self):
        raw = await self._pipe.ends["up"].read()
        if raw is not None:
            self._pipe.network.hears(self._pipe.certificate)
        return grpc.aio.EOF if raw is None else sync_pb2.Up.FromString(raw)


class Channel:
    """Stands for `grpc.aio.Channel`; the generated stub takes it."""

    def __init__(self, network: Network, name: str, certificate: bytes) -> None:
        self._network = network
        self._name = name
        self._certificate = certificate
        self._pipes: list[Pipe] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        for pipe in self._pipes:
            pipe.cut()

    def stream_stream(self, *_names, **_codecs):
        def call() -> Call:
            pipe = self._network.connect(self._name, self._certificate)
            self._pipes.append(pipe)
            return Call(pipe)

        return call

    def unary_stream(self, *_names, **_codecs):
        return None

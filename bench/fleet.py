"""A fleet of gateways on one event loop, for benches: real mTLS streams that send ready-made blocks."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.served import FACTS, key_of
from twincloud.identity.ca import Authority
from twinmodel.clock import SECOND_NS, ClockQuality, SystemClock
from twinmodel.signal import Catalogue, Stream
from twinsync.backoff import Backoff
from twinsync.channel import Credentials, open_channel
from twinsync.convert import item_to_proto
from twinsync.envelope import up_to_proto
from twinsync.item import Block, Boot, Item
from twinsync.session.messages import PROTOCOL, Heartbeat, Hello
from twinsync.v1 import sync_pb2, sync_pb2_grpc


class Server:
    """The coordinator's process."""

    def __init__(self, process: subprocess.Popen[str], state: Path) -> None:
        self.process = process
        self.state = state
        self.port = int(json.loads((state / FACTS).read_text())["port"])
        self._authority = Authority.load(state, SystemClock())
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([])
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self._key, hashes.SHA256())
        self._csr = request.public_bytes(Encoding.PEM)
        self._private = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def facts(self) -> dict[str, float]:
        """Streams held, memory and processor time."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        found: dict[str, float] = json.loads(self.process.stdout.readline())
        return found

    def credentials(self, number: int) -> Credentials:
        """MTLS of one gateway; all of them share a key, which the coordinator does not mind."""
        leaf = self._authority.issue(key_of(number), self._csr)
        return Credentials(self._authority.root_pem, leaf.chain_pem, self._private)


@contextmanager
def coordinator(folder: Path, gateways: int, *, core: int | None = None) -> Iterator[Server]:
    """Runs a coordinator for this many gateways, on one core when one is named."""
    folder.mkdir()
    state = folder / "coordinator"
    command = [sys.executable, "-m", "bench.served", str(state), str(gateways)]
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("the coordinator did not start")
            # gRPC tells of every connection that a full server lets go; the figures count them.
            os.environ.setdefault("GRPC_VERBOSITY", "NONE")
            yield Server(process, state)
        finally:
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


@dataclass(slots=True)
class Gateway:
    """One gateway: opens its stream and sends messages as its credit allows."""

    number: int
    server: Server
    catalogue: Catalogue
    session: int = 0
    cut: bool = False
    acks_s: list[float] = field(default_factory=list)
    _credentials: Any = None
    _call: Any = None
    _channel: Any = None
    _boot: bytes = field(default_factory=lambda: os.urandom(16))
    _credit: int = 0
    _beat_s: float = 0.0
    _next: int = 0

    def prepare(self) -> None:
        """Gets its certificate."""
        self._credentials = self.server.credentials(self.number)

    async def open(self) -> None:
        """Connects and opens a session; raises RuntimeError when it is refused."""
        if self._credentials is None:
            self.prepare()
        address = f"127.0.0.1:{self.server.port}"
        self._channel = open_channel(address, self._credentials, server_name="localhost")
        self._call = sync_pb2_grpc.SyncStub(self._channel).Session()
        boots = (Boot(self._boot, b"", 1, time.time_ns(), ClockQuality.SYNCED),)
        hello = Hello(PROTOCOL, PROTOCOL, "bench", boots, (), time.time_ns(), time.monotonic_ns(),
                      ClockQuality.SYNCED, (), (self.catalogue.digest,))  # fmt: skip
        await self._call.write(up_to_proto(hello))
        answer = await self._call.read()
        if answer is grpc.aio.EOF or answer.WhichOneof("body") != "welcome":
            raise RuntimeError(f"gateway {self.number} was not welcome: {answer}")
        self.session = answer.welcome.session
        self._credit = answer.welcome.credit_items
        self._beat_s = answer.welcome.heartbeat_ms / 1_000
        if answer.welcome.missing_schemas:
            await self._call.write(up_to_proto(self.catalogue))

    async def open_at_last(self, random: Random) -> int:
        """Opens as an agent does, again after its own backoff; the number of tries that failed."""
        backoff = Backoff(random)
        while True:
            try:
                await self.open()
            except (RuntimeError, grpc.aio.AioRpcError):
                await self._channel.close()
                now_ns = time.monotonic_ns()
                await asyncio.sleep((backoff.failed(now_ns) - now_ns) / SECOND_NS)
            else:
                return backoff.failures

    async def send(self, contents: Sequence[Block], samples: int, per_message: int) -> None:
        """Sends blocks of `samples` samples each and waits until all are committed."""
        waiting: deque[tuple[int, float]] = deque()
        sent = first = self._next
        items = deque(contents)
        target = first + samples * len(items)
        while items or waiting:
            while items and len(waiting) * per_message + per_message <= min(self._credit, 8 * per_message):
                message = sync_pb2.Up()
                message.items.session = self.session
                for _ in range(min(per_message, len(items))):
                    item = Item(self._boot, Stream.STATE, sent, sent + samples - 1, items.popleft())
                    message.items.items.append(item_to_proto(item))
                    sent += samples
                waiting.append((sent, time.perf_counter()))
                await self._call.write(message)
            answer = await self._call.read()
            if answer is grpc.aio.EOF:
                raise RuntimeError(f"gateway {self.number} was cut")
            kind = answer.WhichOneof("body")
            if kind == "committed":
                now = time.perf_counter()
                self._credit = answer.committed.credit_items
                mark = max((m.next_seq for m in answer.committed.marks), default=0)
                while waiting and waiting[0][0] <= mark:
                    self.acks_s.append(now - waiting.popleft()[1])
            elif kind in {"reject", "nack"}:
                raise RuntimeError(f"gateway {self.number}: {answer}")
        self._next = target

    async def beat(self) -> None:
        """Says now and then that it is there, as an agent does: who falls silent is cut."""
        while not self.cut:
            await asyncio.sleep(self._beat_s)
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # `listen` sees that
                await self._call.write(up_to_proto(Heartbeat(self.session, time.time_ns(), (), 0, 0, 0)))

    async def listen(self) -> None:
        """Takes what it is told until its stream ends."""
        with suppress(grpc.aio.AioRpcError):
            while (answer := await self._call.read()) is not grpc.aio.EOF and answer.WhichOneof("body") != "reject":
                pass
        self.cut = True

    async def close(self) -> None:
        """Ends the stream, when there is one."""
        if self._call is not None:
            self._call.cancel()
        if self._channel is not None:
            await self._channel.close()

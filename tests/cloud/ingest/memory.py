"""A coordinator's store in memory, a gateway's spool in memory and certificates: what session tests are made of."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from twincloud.storage.contract import Arrival, Commit, Directive, GatewayKey, Opened, Wish
from twinedge.uplink.ports import Backlog, HelloFacts
from twinmodel.clock import ClockQuality, SystemClock
from twinmodel.errors import ConflictError, InputError, MissingError, TwinError
from twinmodel.signal import Batch, Catalogue, Kind, Signal, Stream
from twinsync import block
from twinsync.channel import Credentials
from twinsync.identity import gateway_uri
from twinsync.item import Block, Boot, Item, Mark, Range
from twinsync.session.messages import item_bytes

GATEWAY = GatewayKey("acme", "plant-a", "gw-1")
CATALOGUE = Catalogue((Signal(0, "press.level", exponent=-3), Signal(1, "press.on", Kind.BOOL)))


class MemoryStore:
    """The rules of `Ingest` over dictionaries; survives a "restart" of the servicer, may be told to fail."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sessions: dict[GatewayKey, int] = {}
        self.heads: dict[GatewayKey, bytes] = {}
        self.marks: dict[tuple[GatewayKey, bytes, Stream], int] = {}
        self.history: list[tuple[bytes, Stream, int]] = []
        self.items: list[Item] = []
        self.dead: list[tuple[int, str]] = []
        self.catalogues: dict[bytes, Catalogue] = {}
        self.directives: dict[str, Directive] = {}
        self.outcomes: dict[str, tuple[str, str, str]] = {}
        self.defaults: tuple[Directive, ...] = ()
        self.artifacts: dict[tuple[str, str], bytes] = {}
        self.wanted: list[Wish] = []
        self.beats = 0
        self.commandables = []
        self.beat_writes = 0
        self.groups: list[list[GatewayKey]] = []
        self.backlog_samples = 0
        self.closed: list[int] = []
        self.hellos: list[int] = []
        self.commits = 0
        self.failure: TwinError | None = None
        self.gate = threading.Event()
        self.gate.set()

    def open_session(self, gateway, hello, now_ns):
        with self.lock:
            head = self.heads.get(gateway)
            if head is not None and head not in {boot.id for boot in hello.boots}:
                raise ConflictError("IDENTITY_FORK", f"{gateway.gateway}: boot {head.hex()} is not in the chain")
            self.heads[gateway] = hello.boots[-1].id
            self.sessions[gateway] = self.sessions.get(gateway, 0) + 1
            boots = {boot.id for boot in hello.boots}
            marks = [Mark(b, s, n) for (g, b, s), n in self.marks.items() if g == gateway and b in boots]
            missing = tuple(digest for digest in hello.schemas if digest not in self.catalogues)
            return Opened(self.sessions[gateway], tuple(marks), missing)

    def open_sessions(self, hellos, now_ns):
        self.hellos.append(len(hellos))
        return [self._opened(gateway, hello, now_ns) for gateway, hello in hellos]

    def _opened(self, gateway, hello, now_ns):
        try:
            return self.open_session(gateway, hello, now_ns)
        except TwinError as refusal:
            return refusal

    def close_session(self, gateway, session, now_ns):
        self.closed.append(session)

    def _check(self, gateway, session):
        if self.sessions.get(gateway) != session:
            raise ConflictError("FENCED", f"session {session} is not the current one")
        if self.failure is not None:
            raise self.failure

    def put_catalogue(self, gateway, session, catalogue, now_ns):
        with self.lock:
            self._check(gateway, session)
            self.catalogues[catalogue.digest] = catalogue

    def wishes(self, gateway, now_ns):
        return tuple(self.wanted)

    def assign_defaults(self, tenant, *, gateway, now_ns):
        opened, self.defaults = self.defaults, ()
        self.directives |= {directive.id: directive for directive in opened}
        return opened

    def catalogue(self, gateway, digest):
        try:
            return self.catalogues[digest]
        except KeyError:
            raise ConflictError("SCHEMA_UNKNOWN", digest.hex()) from None

    def commit_many(self, requests, received_ns):
        self.gate.wait(20)
        with self.lock:
            if self.failure is not None:
                raise self.failure
            self.commits += 1
            self.groups.append([gateway for gateway, _, _ in requests])
            return [self._answer(*request) for request in requests]

    def _answer(self, gateway, session, arrivals):
        try:
            return self.commit_one(gateway, session, arrivals)
        except TwinError as error:
            return error

    def commit_one(self, gateway, session, arrivals: Sequence[Arrival]):
        self._check(gateway, session)
        touched: dict[tuple[bytes, Stream], int] = {}
        rejected, nack = [], None
        for arrival in arrivals:
            item = arrival.item
            key = (gateway, item.boot, item.stream)
            mark = self.marks.get(key, 0)
            touched[item.boot, item.stream] = mark
            if item.last_seq < mark:
                continue
            if item.first_seq > mark:
                nack = Mark(item.boot, item.stream, mark)
                break
            self.items.append(item)
            if arrival.poison:
                self.dead.append((item.first_seq, arrival.poison))
                rejected.append((item.boot, item.stream, item.first_seq, arrival.poison))
            self.history += [(item.boot, item.stream, n) for n in range(max(mark, item.first_seq), item.last_seq + 1)]
            self.marks[key] = touched[item.boot, item.stream] = item.last_seq + 1
        marks = tuple(Mark(b, s, n) for (b, s), n in touched.items())
        return Commit(marks, tuple(rejected), nack, len(arrivals))

    def heartbeats(self, beats):
        with self.lock:
            if self.failure is not None:
                raise self.failure
            self.beats += len(beats)
            self.commandables += [beat.commandables for beat in beats if beat.commandables is not None]
            self.beat_writes += 1
            answers = []
            for beat in beats:
                fenced = self.sessions.get(beat.gateway) != beat.session
                answers.append(ConflictError("FENCED", f"session {beat.session}") if fenced else None)
                self.backlog_samples = beat.backlog_samples
            return answers

    def open_directives(self, gateway):
        return tuple(d for d in self.directives.values() if d.gateway == gateway and d.id not in self.outcomes)

    def settle_directive(self, gateway, directive, outcome, *, reason, detail, running, now_ns):
        if directive not in self.directives:
            raise MissingError("NOT_FOUND", f"directive {directive}")
        self.outcomes[directive] = (outcome, reason, running)

    def artifact(self, tenant, digest):
        try:
            return self.artifacts[tenant, digest]
        except KeyError:
            raise MissingError("NOT_FOUND", f"artifact {digest}") from None


@dataclass
class MemorySpool:
    """The rules of `SpoolPort` over lists; `boot()` is a restart of the agent on the same disk."""

    boots: list[Boot] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    acked: dict[tuple[bytes, Stream], int] = field(default_factory=dict)
    next_seq: dict[tuple[bytes, Stream], int] = field(default_factory=dict)
    catalogues: dict[bytes, Catalogue] = field(default_factory=lambda: {CATALOGUE.digest: CATALOGUE})
    rewound: int = 0
    confirmed: int = 0
    seed: int = 1
    wishes: list = field(default_factory=list)

    def boot(self) -> MemorySpool:
        boot_id = Random(f"{self.seed}/{len(self.boots)}").randbytes(16)
        previous = self.boots[-1].id if self.boots else b""
        self.boots.append(Boot(boot_id, previous, len(self.boots) + 1, 0, ClockQuality.SYNCED))
        return self

    def append(self, count: int = 3, stream: Stream = Stream.TELEMETRY, catalogue: Catalogue = CATALOGUE) -> Item:
        """Appends one honest block of `count` samples."""
        batch = Batch.of(Kind.FLOAT, [0] * count, [1.5] * count, [0] * count, range(10**9, 10**9 * (count + 1), 10**9))
        packed = block.encode([batch], catalogue)
        self.catalogues[catalogue.digest] = catalogue
        content = Block(packed.schema, packed.crc32c, packed.payload, packed.t_min_ns, packed.t_max_ns)
        return self.append_content(content, count, stream)

    def append_content(self, content, count: int, stream: Stream = Stream.TELEMETRY) -> Item:
        key = (self.boots[-1].id, stream)
        first = self.next_seq.get(key, 0)
        item = Item(*key, first, first + count - 1, content)
        self.next_seq[key] = first + count
        self.acked.setdefault(key, 0)
        self.items.append(item)
        return item

    @property
    def unacked(self) -> list[Item]:
        return [item for item in self.items if item.last_seq >= self.acked[item.boot, item.stream]]

    def ids(self) -> set[tuple[bytes, Stream, int]]:
        """Every sample that was ever appended."""
        return {(b, s, n) for (b, s), count in self.next_seq.items() for n in range(count)}

    async def hello_facts(self) -> HelloFacts:
        held = ((key, self.acked[key], following) for key, following in self.next_seq.items())
        ranges = tuple(Range(*key, acked, following) for key, acked, following in held if acked < following)
        schemas = tuple(dict.fromkeys(i.content.schema for i in self.unacked if isinstance(i.content, Block)))
        return HelloFacts(tuple(self.boots), ranges, ClockQuality.SYNCED, schemas)

    async def unsent(self, after: Sequence[Mark], bytes_max: int, items_max: int) -> list[Item]:
        cursors = {(m.boot, m.stream): m.next_seq for m in after}
        order = {boot.id: boot.counter for boot in self.boots}
        waiting = [i for i in self.unacked if i.last_seq >= cursors.get((i.boot, i.stream), 0)]
        waiting.sort(key=lambda i: (i.stream, order[i.boot], i.first_seq))
        chosen: list[Item] = []
        for item in waiting[:items_max]:
            if chosen and sum(map(item_bytes, chosen)) + item_bytes(item) > bytes_max:
                break
            chosen.append(item)
        return chosen

    async def confirm_boot(self) -> None:
        self.confirmed = len(self.boots)

    async def acknowledge(self, marks: Sequence[Mark]) -> None:
        for mark in marks:
            key = (mark.boot, mark.stream)
            self.acked[key] = max(self.acked.get(key, 0), mark.next_seq)

    async def rewind(self, marks: Sequence[Mark]) -> None:
        for mark in marks:
            if mark.next_seq < self.acked.get((mark.boot, mark.stream), 0):
                self.rewound += 1
                self.acked[mark.boot, mark.stream] = mark.next_seq

    async def coarsen(self, wish) -> None:
        self.wishes.append(wish)

    async def catalogue(self, digest: bytes) -> Catalogue | None:
        return self.catalogues.get(digest)

    async def backlog(self) -> Backlog:
        return Backlog(0, sum(i.count for i in self.unacked), 0)


class SilentDownlink:
    """A downlink that only remembers."""

    def __init__(self) -> None:
        self.offered: list = []
        self.kept: list = []

    def offer(self, directive) -> None:
        self.offered.append(directive)

    def states(self):
        return self.kept

    def running(self):
        return ()


class Authority:
    """A certificate authority for one test."""

    def __init__(self, name: str = "test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = dt.datetime.now(dt.UTC)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=30))
            .not_valid_after(now + dt.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        names: Sequence[x509.GeneralName],
        *,
        days: float = 1.0,
        past_days: float = 10.0,
        roots: bytes | None = None,
    ) -> Credentials:
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=past_days))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName(list(names)), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Credentials(roots or self.pem, leaf.public_bytes(serialization.Encoding.PEM), private)

    def server(self) -> Credentials:
        return self.issue([x509.DNSName("localhost")])

    def gateway(self, key: GatewayKey = GATEWAY, **kwargs) -> Credentials:
        uri = gateway_uri(key.tenant, key.site, key.gateway)
        return self.issue([x509.UniformResourceIdentifier(uri)], **kwargs)


async def until(condition, timeout_s: float = 60.0) -> None:
    """Waits for something other tasks bring about."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is awaited lies in another thread or process
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(coroutine):
    """Runs a task while the context is open."""
    task = asyncio.ensure_future(coroutine)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


CLOCK = SystemClock()
CORRUPT = InputError("BLOCK_CORRUPT", "")

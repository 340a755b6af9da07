"""A lean REST client over plain sockets, in a process of its own.

`python -m bench.coordinator.load` takes a job as a line of JSON on its input:
{"host", "port", "token", "kind", "paths", "connections", "seconds", "per_s"} is answered by one line
{"done", "failed", "seconds", "cpu_s", "ms": [...]}. Kinds: `read` asks for the paths by turns; `change` patches each
connection's path under the ETag of its last answer. With `per_s` requests come at that rate whether or not the ones
before are answered, and a request's time counts from the moment it was due; else each connection asks without a pause.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

_READ_BYTES = 1 << 16


@dataclass(slots=True)
class Connection:
    """One connection and the request that waits on it."""

    sock: socket.socket
    path: str = ""
    tag: bytes = b""
    got: bytes = b""
    begun: float = 0.0
    busy: bool = False


class Load:
    """One job."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.changes = job["kind"] == "change"
        self.connections = [Connection(self._connected()) for _ in range(job["connections"])]
        self.head = f"HTTP/1.1\r\nhost: {job['host']}\r\nauthorization: Bearer {job['token']}\r\n".encode()
        self.selector = selectors.DefaultSelector()
        self.asked = self.done = self.failed = 0
        self.spent_ms: list[float] = []
        for place, one in enumerate(self.connections):
            one.path = job["paths"][place % len(job["paths"])]
            self.selector.register(one.sock, selectors.EVENT_READ, one)

    def run(self) -> dict[str, Any]:
        """Does it."""
        if self.changes:
            for one in self.connections:
                self._tag(one)
        begin, cpu = time.perf_counter(), time.process_time()
        end = begin + self.job["seconds"]
        per_s = self.job.get("per_s", 0)
        idle = list(self.connections)
        due = 0
        while (now := time.perf_counter()) < end or any(one.busy for one in self.connections):
            if per_s and now < end:
                while idle and begin + due / per_s <= now:
                    self._ask(idle.pop(), begin + due / per_s)
                    due += 1
            elif not per_s and now < end:
                while idle:
                    self._ask(idle.pop(), time.perf_counter())
            wait = max(0.0, begin + due / per_s - now) if per_s and idle else 0.05
            for key, _ in self.selector.select(wait):
                if self._take(key.data):
                    idle.append(key.data)
        elapsed = time.perf_counter() - begin
        cpu = time.process_time() - cpu
        return {"done": self.done, "failed": self.failed, "seconds": elapsed, "cpu_s": cpu, "ms": self.spent_ms}

    def _ask(self, one: Connection, begun: float) -> None:
        if self.changes:
            body = b'{"tags":{"round":"%d"}}' % self.asked
            words = b"content-type: application/merge-patch+json\r\ncontent-length: %d\r\nif-match: %s\r\n\r\n%s"
            request = b"PATCH %s " % one.path.encode() + self.head + words % (len(body), one.tag, body)
        else:
            path = self.job["paths"][self.asked % len(self.job["paths"])]
            request = b"GET %s " % path.encode() + self.head + b"\r\n"
        self.asked += 1
        one.begun, one.busy, one.got = begun, True, b""
        one.sock.sendall(request)

    def _take(self, one: Connection) -> bool:
        """Whether its answer is complete."""
        some = one.sock.recv(_READ_BYTES)
        if not some and not one.busy:
            self._again(one)  # who does not ask for seconds is let go
            return False
        if not some:
            raise RuntimeError(f"a connection was cut: {one.got[:500]!r}")
        one.got += some
        end = one.got.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = one.got[:end].lower()
        if len(one.got) - end - 4 < int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            return False
        one.busy = False
        self.done += 1
        self.spent_ms.append((time.perf_counter() - one.begun) * 1e3)
        if one.got[9:10] != b"2":
            self.failed += 1
        if self.changes:
            one.tag = head.partition(b"etag:")[2].split(b"\r\n", 1)[0].strip()
        return True

    def _again(self, one: Connection) -> None:
        self.selector.unregister(one.sock)
        one.sock.close()
        one.sock = self._connected()
        self.selector.register(one.sock, selectors.EVENT_READ, one)

    def _connected(self) -> socket.socket:
        made = socket.create_connection((self.job["host"], self.job["port"]))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def _tag(self, one: Connection) -> None:
        """The ETag of the record as it is."""
        one.sock.sendall(b"GET %s " % one.path.encode() + self.head + b"\r\n")
        one.got, one.busy = b"", True
        while not self._take(one):
            pass
        self.done, self.spent_ms = 0, []


if __name__ == "__main__":
    print(json.dumps(Load(json.loads(sys.stdin.readline())).run()), flush=True)

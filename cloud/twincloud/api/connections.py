"""HTTP connections that nobody can hold for nothing: one that is silent, or speaks drop by drop, is cut.

uvicorn bounds how many connections there are, not how long one may take to say what it wants; a peer that opens all of
them and is silent would lock everybody else out.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from twincloud.api.express import Express
from twincloud.api.short import Short

LOOK_S = 10.0
BODY_LOOKS_MAX = 12
HEAD_BYTES_MAX = 64 << 10
ENROLMENTS_PER_PEER_MAX = 20


class ImpatientProtocol(HttpToolsProtocol):
    """Looks each `look_s` seconds whether a request came on, and ends the connection when none did.

    Attributes:
        look_s: a request line with its headers is whole after this long, at most twice as long when the connection
            was used before; a body after `BODY_LOOKS_MAX` times as long. Answers may take for ever.
        peer_max: connections of one address at once, 0 for any number.
        express: answers the plainest requests past the server, None when it answers all.
    """

    look_s = LOOK_S
    peer_max = 0
    express: Express | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seen: tuple[object, ...] = (None, True, 0)
        self._looks = 0
        self._next_look: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = False
        self._in_message = False
        # Of the request that is answered past the server: its bytes, and those that came after it.
        self._asked: bytes | None = None
        self._behind: list[bytes] = []
        self._answers = 0
        self._ends = False

    def data_received(self, data: bytes) -> None:
        """Takes bytes in; a request line with headers that never end is cut, since the parser would keep them all."""
        if self._asked is not None:
            self._behind.append(data)
            self.flow.pause_reading()
            return
        if self.express is not None and self._is_idle():
            self._asked = data
            if self.express.take(data, self.server_state.default_headers, self._answer):
                self._unset_keepalive_if_required()
                return
            self._asked = None
        super().data_received(data)
        self._head_bytes = self._head_bytes + len(data) if self._in_head else 0
        if self._head_bytes > HEAD_BYTES_MAX:
            self.transport.abort()

    def _is_idle(self) -> bool:
        """Whether the next byte begins a request, all before it are answered, and the peer takes its answers."""
        answered = self.cycle is None or self.cycle.response_complete
        limit = self.limit_concurrency
        full = limit is not None and len(self.connections) >= limit
        return answered and not (self._in_message or self.flow.write_paused or full or self.transport.is_closing())

    def _answer(self, answer: bytes | None) -> None:
        """Sends the answer to what `express` took; without one the server does what it would have done."""
        asked, self._asked = self._asked, None
        behind, self._behind = self._behind, []
        if self.transport.is_closing() or asked is None:
            return
        self._answers += 1
        if answer is None:
            super().data_received(asked)
            if self._ends:
                super().shutdown()
        else:
            self.server_state.total_requests += 1
            self.transport.write(answer)
            if self._ends:
                self.transport.close()
                return
        if behind:
            self.flow.resume_reading()
            self.data_received(b"".join(behind))

    def shutdown(self) -> None:
        """Ends the connection once what was asked is answered."""
        if self._asked is None:
            super().shutdown()
        self._ends = True

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = self._in_message = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._in_message = False
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        super().on_headers_complete()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Begins to look, unless its peer has too many connections already."""
        super().connection_made(transport)
        if self.peer_max and self._connections_of_peer() > self.peer_max:
            transport.abort()
            return
        self._next_look = self.loop.call_later(self.look_s, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Looks no more."""
        if self._next_look is not None:
            self._next_look.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        waits = self._asked is None and (self.cycle is None or self.cycle.response_complete)
        seen = (self.cycle, waits, self._answers)
        stuck = seen == self._seen and self._asked is None and (waits or self.cycle.more_body)
        self._looks = self._looks + 1 if stuck else 0
        self._seen = seen
        if self._looks >= (1 if waits else BODY_LOOKS_MAX):
            # A polite end of TLS would wait for the very peer that does not answer.
            self.transport.abort()
            return
        self._next_look = self.loop.call_later(self.look_s, self._look)

    def _connections_of_peer(self) -> int:
        host = self.client[0] if self.client else ""
        ours = (one for one in self.connections if isinstance(one, HttpToolsProtocol) and one.client)
        return sum(one.client is not None and one.client[0] == host for one in ours)


class EnrolmentProtocol(ImpatientProtocol):
    """For the listener that strangers reach: one address cannot take all its places."""

    peer_max = ENROLMENTS_PER_PEER_MAX


def express_protocol(short: Short) -> type[ImpatientProtocol]:
    """The protocol of a listener whose plainest requests are answered at the connection."""

    class ExpressProtocol(ImpatientProtocol):
        """For REST."""

        express = Express(short)

    return ExpressProtocol

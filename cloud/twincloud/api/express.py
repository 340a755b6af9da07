"""Requests answered at the connection itself, without parser, task and framework: what `Short` knows, in one piece.

    bytes ─▶ parse: one plain request, nothing before or behind it ─▶ Short ─▶ answer, in one piece
                └▶ anything else: the server's own way

Only the plainest form is read here: every header is one of a few known ones, once; lines end as they must; the length
is that of the body. Whatever could be read in two ways is left to the real parser.
"""

from __future__ import annotations

import re
from asyncio import Future
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from twincloud.api.held import Held
from twincloud.api.short import FIXED, Answer, Short, plain
from twincloud.storage.records_twins import TwinRecord
from twinmodel.errors import TwinError

BYTES_MAX = 64 << 10
_LINE = re.compile(rb"(GET|PATCH) (/api/v1/tenants/[A-Za-z0-9/_-]{1,300}) HTTP/1\.1")
_FORBIDDEN = re.compile(rb"[^\t\x20-\x7e\r\n]")
_FIXED = b"".join(b"%s: %s\r\n" % header for header in FIXED)

Headers = list[tuple[bytes, bytes]]
Answered = Callable[["bytes | None"], None]
"""Is told the bytes of the answer, None when the server's own way must be taken after all."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A request in its plainest form."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    body: bytes


def parse(sent: bytes) -> Plain | None:
    """A whole request and nothing else, None for what is any more difficult than that."""
    end = sent.find(b"\r\n\r\n")
    if end < 0 or len(sent) > BYTES_MAX:
        return None
    head = sent[:end]
    first, *lines = head.split(b"\r\n")
    named = _LINE.fullmatch(first)
    if named is None or _FORBIDDEN.search(head) or not len(lines) == head.count(b"\n") == head.count(b"\r"):
        return None
    headers: Headers = []
    for line in lines:
        name, colon, text = line.partition(b":")
        if not colon:
            return None
        headers.append((name.lower(), text.strip(b" \t")))
    found = plain(headers, change=named[1] == b"PATCH")
    if found is None or found.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return None
    body = sent[end + 4 :]
    length = found.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 8 or int(length) != len(body):
        return None
    return Plain(named[1].decode(), named[2].decode(), found, body)


class Express:
    """Answers requests of connections."""

    def __init__(self, short: Short) -> None:
        self._short = short

    def take(self, sent: bytes, default: Headers, answered: Answered) -> bool:
        """Takes bytes that came; False when they are for the server's own way.

        Args:
            sent: what came since the last answer.
            default: headers of every answer.
            answered: called once, at once or later, when they are taken.
        """
        asked = parse(sent)
        wanted = self._short.wants(asked.method, asked.path) if asked is not None else None
        if asked is None or wanted is None:
            return False
        key, change = wanted
        principal = self._short.allowed(key, asked.headers, change=change)
        if principal is None:
            return False
        started_ns = self._short.boot_ns()
        try:
            if not change:
                found = self._short.read(key)
                if isinstance(found, Answer):
                    answered(_encoded(found, default))
                else:
                    found.add_done_callback(partial(self._read, default, answered, started_ns))
            else:
                made = self._short.change(key, asked.headers, asked.body, principal)
                made.add_done_callback(partial(self._changed, default, answered, asked.path, started_ns))
        except TwinError as error:
            if not change:
                return False
            answered(_encoded(self._short.refusal(error, asked.path, started_ns), default))
        return True

    def _read(self, default: Headers, answered: Answered, started_ns: int, held: Future[Held]) -> None:
        if held.cancelled() or held.exception() is not None:
            answered(None)
        else:
            answered(_encoded(self._short.held_answer(held.result(), started_ns), default))

    def _changed(
        self, default: Headers, answered: Answered, path: str, started_ns: int, made: Future[TwinRecord | None]
    ) -> None:
        error = None if made.cancelled() else made.exception()
        if isinstance(error, TwinError):
            answered(_encoded(self._short.refusal(error, path, started_ns), default))
        elif made.cancelled() or error is not None:
            # Whether it was made nobody knows: it must not be tried again.
            answered(_encoded(self._short.failure(error, path, started_ns), default))
        else:
            record = made.result()
            assert record is not None
            answered(_encoded(self._short.record_answer(record, started_ns), default))


def _encoded(answer: Answer, default: Headers) -> bytes:
    said = b"".join([b"%s: %s\r\n" % header for header in (*default, *answer.headers)])
    if answer.tag:
        said += b"%scontent-length: %d\r\netag: %s\r\n" % (_FIXED, len(answer.body), answer.tag.encode())
    return b"%s%s\r\n%s" % (STATUS_LINE[answer.status], said, answer.body)

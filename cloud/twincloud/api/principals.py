"""Who tokens are, held for a second: most requests carry one that was looked up a moment ago.

What the ledger says is asked each time, so that a revoked token ends at once; what the store says, each second.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from twincloud.api.threads import Threads
from twincloud.identity.ledger import Content, Ledger
from twincloud.identity.tokens import resolve
from twincloud.storage.contract import Principal, Store
from twincloud.storage.part import Recent
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import UnreachableError

KEPT_MAX = 10_000
ASKED_MAX = 16
KEPT_NS = SECOND_NS


@dataclass(frozen=True, slots=True)
class _Known:
    principal: Principal
    content: Content
    until_boot_ns: int


class Principals:
    """Looks tokens up, by their hash."""

    def __init__(self, store: Store, ledger: Ledger, threads: Threads, clock: Clock) -> None:
        self._store, self._ledger, self._threads, self._clock = store, ledger, threads, clock
        self._known: Recent[bytes, _Known] = Recent(KEPT_MAX)
        self._asked: set[bytes] = set()
        self._content: Content | None = None

    def held(self, token_hash: bytes) -> Principal | None:
        """Whose token it is, when that is known without asking the store; in use, it is asked before it must be."""
        known = self._known.get(token_hash)
        if known is None:
            return None
        left_ns = known.until_boot_ns - self._clock.boot_ns()
        if left_ns <= 0 or self._said() is not known.content:
            return None
        if left_ns < KEPT_NS // 2 and token_hash not in self._asked and len(self._asked) < ASKED_MAX:
            self._ask_again(token_hash)
        return known.principal

    def _said(self) -> Content:
        """What the ledger says at this turn of the event loop: requests of one turn came at one moment."""
        if self._content is None:
            self._content = self._ledger.content()
            asyncio.get_running_loop().call_soon(self._forget)
        return self._content

    def _forget(self) -> None:
        self._content = None

    def _ask_again(self, token_hash: bytes) -> None:
        content, now_ns = self._ledger.content(), self._clock.wall_ns()
        try:
            asked = self._threads.submit(resolve, self._store, self._ledger, token_hash, now_ns)
        except UnreachableError:
            return  # the next request asks
        self._asked.add(token_hash)
        asked.add_done_callback(partial(self._answered, token_hash, content, now_ns, self._clock.boot_ns()))

    def _answered(
        self, token_hash: bytes, content: Content, now_ns: int, boot_ns: int, asked: asyncio.Future[Principal]
    ) -> None:
        self._asked.discard(token_hash)
        # Who is refused now is told so by the next look, which comes when what is known ends.
        if not asked.cancelled() and asked.exception() is None:
            self._keep(token_hash, asked.result(), content, now_ns, boot_ns)

    def _keep(self, token_hash: bytes, principal: Principal, content: Content, now_ns: int, boot_ns: int) -> None:
        entry = content.tokens.get(token_hash.hex())
        left_ns = entry.expires_ns - now_ns if entry is not None and entry.expires_ns else KEPT_NS
        self._known.put(token_hash, _Known(principal, content, boot_ns + min(KEPT_NS, left_ns)))

    async def of(self, token_hash: bytes) -> Principal:
        """Whose token it is; raises TOKEN_INVALID when it is unknown, expired or revoked."""
        held = self.held(token_hash)
        if held is not None:
            return held
        content, now_ns, boot_ns = self._ledger.content(), self._clock.wall_ns(), self._clock.boot_ns()
        principal = await self._threads.run(resolve, self._store, self._ledger, token_hash, now_ns)
        self._keep(token_hash, principal, content, now_ns, boot_ns)
        return principal

"""Who tokens are, held for a second: most requests carry one that was looked up a moment ago.

What the ledger says is asked each time, so that a revoked token ends at once; what the store says, each second.
"""

from __future__ import annotations

from dataclasses import dataclass

from twincloud.api.threads import Threads
from twincloud.identity.ledger import Content, Ledger
from twincloud.identity.tokens import resolve
from twincloud.storage.contract import Principal, Store
from twincloud.storage.part import Recent
from twinmodel.clock import SECOND_NS, Clock

KEPT_MAX = 10_000
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

    def held(self, token_hash: bytes) -> Principal | None:
        """Whose token it is, when that is known without asking the store."""
        known = self._known.get(token_hash)
        if known is None or known.until_boot_ns <= self._clock.boot_ns() or self._ledger.content() is not known.content:
            return None
        return known.principal

    async def of(self, token_hash: bytes) -> Principal:
        """Whose token it is; raises TOKEN_INVALID when it is unknown, expired or revoked."""
        held = self.held(token_hash)
        if held is not None:
            return held
        content, now_ns = self._ledger.content(), self._clock.wall_ns()
        principal = await self._threads.run(resolve, self._store, self._ledger, token_hash, now_ns)
        entry = content.tokens.get(token_hash.hex())
        left_ns = entry.expires_ns - now_ns if entry is not None and entry.expires_ns else KEPT_NS
        until_boot_ns = self._clock.boot_ns() + min(KEPT_NS, left_ns)
        self._known.put(token_hash, _Known(principal, content, until_boot_ns))
        return principal

"""The store contract of long listings: page by page, right while rows come and go."""

from __future__ import annotations

from typing import Protocol

from twincloud.storage.records import Directive, GatewayKey, Loss, Page


class Listings(Protocol):
    """What lists read."""

    def directive_page(self, tenant: str, *, target: str = "", limit: int = 100, token: str = "") -> Page[Directive]:
        """Directives of a tenant, newest first, of one target when it is named; raises REQUEST_INVALID."""
        ...

    def directive(self, gateway: GatewayKey, directive: str) -> Directive:
        """One of them, with its content; raises NOT_FOUND, UNKNOWN_GATEWAY."""
        ...

    def forget_directives(self, before_ns: int, limit: int) -> int:
        """Deletes old directives that have ended; how many.

        Those of models go only when there are very many of a target. What is open, the newest of each target, and the
        last one that was applied stay.
        """
        ...

    def loss_page(self, key: GatewayKey, *, limit: int = 100, token: str = "") -> Page[Loss]:
        """The loss ledger of a gateway in the order of declaration; raises UNKNOWN_GATEWAY, REQUEST_INVALID."""
        ...

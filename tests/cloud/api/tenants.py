"""Watches that what REST asks of the store names its tenant, so that row-level security backs each query."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

STORAGE = str(Path("twincloud") / "storage")
REST = "rest"
"""How threads that read the store for REST are named."""
OF_ALL = {
    "tenants": "names all tenants: of an administrator of all of them alone",
    "create_tenant": "asked by an administrator of all tenants, whose request is not the new one's",
    "create_token": "as above",
    "principal": "finds whose token it is",
    "redeem_invite": "finds whose invitation it is",
    "read": "documents of the coordinator itself: packages by digest, the ledger",
    "version": "as above",
    "write": "as above",
    "status": "counts rows of the whole database for /readyz and /metrics",
    "first_event": "a number alone, the same for all tenants",
    "last_event": "a number alone, the same for all tenants",
    "newest_commit": "a number alone, the same for all tenants",
    "known_at": "a number alone, the same for all tenants: commits are of the whole database",
    "remove_damaged": "documents of the coordinator itself",
}
"""Methods of the store that look at all tenants, and why they may."""


class Watch:
    """Stands in a database's `read` and `write`; `found` are the methods that named no tenant."""

    def __init__(self, database, monkeypatch) -> None:
        self.found: set[str] = set()
        self.seen = 0
        for name in ("read", "write"):
            monkeypatch.setattr(database, name, self._watched(getattr(database, name)))

    def _watched(self, real):
        def opened(tenant: str = "*"):
            if threading.current_thread().name.startswith(REST):
                self.seen += 1
                if tenant == "*":
                    self.found.add(caller())
            return real(tenant)

        return opened


def caller() -> str:
    """The innermost method of the store that is running."""
    frame = sys._getframe(2)
    while frame is not None and STORAGE not in frame.f_code.co_filename:
        frame = frame.f_back
    return frame.f_code.co_name if frame is not None else "?"

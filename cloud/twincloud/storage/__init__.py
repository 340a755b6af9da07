"""Where the coordinator keeps what it knows, behind one contract: `create` once, then `open_store`."""

from twincloud.storage.directory import create
from twincloud.storage.store import SqliteStore, open_store

__all__ = ["SqliteStore", "create", "open_store"]

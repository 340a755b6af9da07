"""Where the coordinator keeps what it knows, behind one contract: `create` once, then `open_store`."""

from twincloud.storage.directory import create
from twincloud.storage.store import CoordinatorStore, open_store

__all__ = ["CoordinatorStore", "create", "open_store"]

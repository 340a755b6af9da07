"""Where the coordinator keeps what it knows, behind one contract: `create` once, then `open_store`."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twincloud.storage.directory import create
    from twincloud.storage.store import CoordinatorStore, open_store
else:
    _HOMES = {"create": "directory", "CoordinatorStore": "store", "open_store": "store"}

    def __getattr__(name: str) -> object:
        """Commands that want a record of the contract start without the database's libraries, a second of CPU."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = ["CoordinatorStore", "create", "open_store"]

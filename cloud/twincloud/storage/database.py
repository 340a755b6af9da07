"""What the store needs of a database engine; everything that differs between engines stands behind this."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy import ClauseElement, Connection, Table

Row = Mapping[str, Any]
"""Column -> value of one row to write."""


ALL = "*"
"""For the tenant of a transaction: no tenant in particular."""


class Database(Protocol):
    """One database: write transactions one after the other, read transactions beside them."""

    @property
    def engine(self) -> str:
        """Name and version, e.g. `sqlite 3.45.1`."""
        ...

    def write(self, tenant: str = ALL) -> AbstractContextManager[Connection]:
        """A durable transaction: committed when the block ends, rolled back when it raises.

        Args:
            tenant: whose rows it may see and write, `*` for all; where the engine has row-level security, it enforces
                this also for SQL that forgets it. SQLite ignores it.

        Raises:
            StorageError: STORE_FULL, STORE_SYNC_FAILED, STORE_CORRUPT, STORE_READ_ONLY; nothing was committed.
        """
        ...

    @property
    def commits(self) -> int | None:
        """How many transactions this process has committed, None where others commit to the database too.

        As long as it stays the same, nothing has changed; it grows before a writer goes on after its commit.
        """
        ...

    def read(self, tenant: str = ALL) -> AbstractContextManager[Connection]:
        """A snapshot that no writer changes, of one tenant's rows or, with `*`, of all; raises StorageError."""
        ...

    def whole(self, connection: Connection) -> AbstractContextManager[None]:
        """Joins whole tables until the block ends, whatever the planner believes of their sizes.

        After a bulk load a planner may know nothing of a table, expect one row of it and compare each row of one table
        with each of the other.
        """
        ...

    def read_many(self, connection: Connection, statement: ClauseElement, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
        """What the statement finds for each of these parameter sets, in their order; for the path of every commit.

        Values come as the driver has them: use it for integers, text and bytes only.
        """
        ...

    def write_many(self, connection: Connection, statement: ClauseElement, rows: Sequence[Row]) -> None:
        """Writes rows that name the same columns; each names every column that has no default in the database."""
        ...

    def upsert(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """Inserts rows, or updates those whose primary key exists."""
        ...

    def lease(self, name: str) -> AbstractContextManager[bool]:
        """Whether this process alone does the work of that name until the block ends.

        A process that dies, or loses the server, loses its leases: what matters is checked again by transactions.
        Where one process has the database for itself, it is always granted.
        """
        ...

    def is_present(self, connection: Connection, replica: str) -> bool:
        """Whether the coordinator of that name runs; known where several share the database (`announce`)."""
        ...

    def announce(self, replica: str, ring: Callable[[], None]) -> AbstractContextManager[None]:
        """Tells others that this coordinator runs until the block ends, and rings for what they commit.

        Args:
            replica: its name.
            ring: called from another thread when events were recorded, by anybody, or may have been missed.
        """
        ...

    def reclaim(self) -> int:
        """Drops partitions that are empty and will stay so; returns how many. Without partitions there are none."""
        ...

    def facts(self) -> dict[str, object]:
        """Facts about files, modes and free space."""
        ...

    def check(self) -> tuple[str, ...]:
        """Damage that the engine finds in the whole database, empty when it is sound; may take minutes."""
        ...

    def close(self) -> None:
        """Ends all connections."""
        ...

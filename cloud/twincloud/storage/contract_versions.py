"""The part of the store contract that says whether a view is still the one of now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Versions(Protocol):
    """Versions of views."""

    def commits(self) -> int | None:
        """Grows with each transaction; None where other processes commit to the database, too.

        As long as it stays the same, every answer of the store does; whoever waits for a commit goes on after it grew.
        """
        ...

    def twin_versions(self, tenant: str, names: Sequence[tuple[str, str]]) -> list[tuple[Any, ...] | None]:
        """A value per twin, (site, name) each, that differs whenever its view does; None where there is none.

        It covers what people and gateways say of the twin, its gateway's state and what runs for it; not what time
        alone changes, such as how old a value is.
        """
        ...

"""The part of the store contract that keeps twins which run in the coordinator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from twincloud.storage.records import Arrival, Commit, GatewayKey, TwinKey
from twincloud.storage.records_cloud import CloudTwin, Fresh
from twinmodel.signal import Catalogue, TwinBinding


class Clouds(Protocol):
    """Twins that run in the coordinator, and what feeds them; each method is one transaction."""

    def binding(self, key: TwinKey) -> tuple[GatewayKey, TwinBinding, Catalogue]:
        """Who serves a twin, and which signals make it up; raises UNKNOWN_TWIN."""
        ...

    def commits_in(self, gateway: GatewayKey, from_ns: int, to_ns: int) -> str:
        """A text that changes with every commit of the gateway that has samples in a span."""
        ...

    def put_cloud_twin(self, twin: CloudTwin, now_ns: int) -> CloudTwin:
        """Keeps what a person asked for; raises LIMIT_EXCEEDED."""
        ...

    def drop_cloud_twin(self, key: TwinKey, now_ns: int) -> None:
        """Ends a cloud twin; raises NOT_FOUND."""
        ...

    def cloud_twin(self, key: TwinKey) -> CloudTwin:
        """One; raises NOT_FOUND."""
        ...

    def cloud_twins(self, tenant: str = "") -> tuple[CloudTwin, ...]:
        """All of a tenant, or of all."""
        ...

    def newest_commit(self) -> int:
        """The number of the newest commit or event of all."""
        ...

    def fresh(self, signals: Mapping[GatewayKey, Sequence[str]], after: int) -> tuple[list[Fresh], int]:
        """Event times committed after a number, and the number up to which this is all."""
        ...

    def cloud_checkpoint(self, twin: CloudTwin, before_ns: int) -> tuple[int, bytes] | None:
        """The newest checkpoint with a tick before a time."""
        ...

    def keep_cloud_step(
        self,
        old: CloudTwin,
        new: CloudTwin,
        request: tuple[GatewayKey, int, Sequence[Arrival]] | None,
        checkpoints: Mapping[int, bytes],
        now_ns: int,
    ) -> Commit | None:
        """Commits what a twin said with how far it is, in one transaction; raises FENCED."""
        ...

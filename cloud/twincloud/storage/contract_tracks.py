"""The part of the store contract that replays, back-tests and explanations read: raw samples with their origins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from twincloud.storage.records import GatewayKey, TwinKey
from twincloud.storage.tiers import KNOWN_ALL, Run


class Tracks(Protocol):
    """Raw samples by gateway and signal."""

    def tracks(
        self, gateway: GatewayKey, signals: Sequence[str], from_ns: int, to_ns: int, known: int = KNOWN_ALL
    ) -> Mapping[str, Run]:
        """Samples of signals in [from_ns, to_ns) that were committed up to `known`, a track for each.

        Raises UNKNOWN_GATEWAY; LIMIT_EXCEEDED when the span holds too much.
        """
        ...

    def gateways_of(self, key: TwinKey) -> tuple[GatewayKey, ...]:
        """The gateways that have spoken for a twin, the first one first; raises UNKNOWN_TWIN."""
        ...

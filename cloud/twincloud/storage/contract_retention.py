"""What retention needs of the store: policies, the limits they lead to, and the deletion of what lies beyond."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from twincloud.storage.kept import Kept
from twincloud.storage.records import GatewayKey, TwinKey
from twincloud.storage.records_exports import Plan
from twincloud.storage.records_retention import Holder, RetentionPlan
from twincloud.twins.retention import Policy

Check = Callable[[tuple[Policy, ...]], None]
"""Raises when the policies of now are not those a change is meant for."""


class Retention(Protocol):
    """How long history is kept; every method is one transaction."""

    def retention(self, tenant: str) -> tuple[Policy, ...]:
        """The policies of a tenant, the most specific first."""
        ...

    def set_retention(
        self, tenant: str, policies: Sequence[Policy], *, by: str, now_ns: int, check: Check
    ) -> tuple[Policy, ...]:
        """Replaces all policies of a tenant; raises what `check` and `twins.retention.Table` raise."""
        ...

    def plan_retention(
        self, tenant: str, policies: Sequence[Policy] | None, now_ns: int, *, archiving: bool
    ) -> RetentionPlan:
        """What policies, those of now for None, would let go of; nothing is changed."""
        ...

    def holders(self, *, archiving: bool) -> tuple[Holder, ...]:
        """Gateways of tenants with policies, and those of which something was let go."""
        ...

    def let_go(self, holder: Holder, now_ns: int) -> int:
        """Says from when on signals are kept, which hides what lies before; gives how many points it concerns.

        What is not summed up in buckets yet keeps its whole gateway waiting.
        """
        ...

    def delete_expired(self, holder: Holder) -> int:
        """A step: deletes rows of hours and buckets that are hidden; gives how many, 0 when none is left."""
        ...

    def expire_archives(self, holder: Holder, after_ns: int, now_ns: int) -> int:
        """A step: gives up archived files of days after a time of which all is hidden, as if others took their place.

        Gives the time to go on after, 0 when it was the last step.
        """
        ...

    def kept(self, key: TwinKey, prop: str, roles: Sequence[str]) -> Mapping[str, Kept]:
        """From when on a property is kept, by role; raises UNKNOWN_TWIN, NOT_FOUND."""
        ...

    def kept_of_twin(self, key: TwinKey) -> Kept:
        """From when on all of a twin is kept; raises UNKNOWN_TWIN."""
        ...

    def kept_of_plan(self, plan: Plan) -> Kept:
        """From when on all that an export reads is kept."""
        ...

    def kept_of_signals(self, gateway: GatewayKey, signals: Sequence[str]) -> Kept:
        """From when on all of some signals is kept; raises UNKNOWN_GATEWAY."""
        ...

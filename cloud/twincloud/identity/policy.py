"""Which role may do what, as one table."""

from __future__ import annotations

from collections.abc import Mapping

from twincloud.storage.contract import Principal
from twinmodel.errors import DeniedError

ROLES = ("viewer", "operator", "engineer", "admin")
"""From the least to the most; each may do all that those before it may."""

ALL_TENANTS = "*"

POLICY: Mapping[str, str] = {
    "fleet.read": "viewer",
    "fleets.read": "viewer",
    "fleets.write": "operator",
    "gateways.read": "viewer",
    "twins.read": "viewer",
    "models.read": "viewer",
    "signers.read": "viewer",
    "directives.read": "viewer",
    "events.read": "viewer",
    "alarms.read": "viewer",
    "alarms.ack": "operator",
    "alarms.shelve": "operator",
    "alarms.service": "engineer",
    "operations.read": "viewer",
    "retention.read": "viewer",
    "commands.read": "viewer",
    "commands.issue": "operator",
    "commands.cancel": "operator",
    "commands.approve": "engineer",
    "operations.cancel": "operator",
    "twins.backtest": "operator",
    "samples.read": "operator",
    "artifacts.read": "operator",
    "deadletters.read": "operator",
    "deadletters.requeue": "operator",
    "gateways.invite": "operator",
    "gateways.coarsen": "operator",
    "models.assign": "operator",
    "configurations.read": "operator",
    "gateways.configure": "engineer",
    "twins.desire": "operator",
    "twins.write": "engineer",
    "twins.run": "engineer",
    "definitions.publish": "engineer",
    "retention.write": "engineer",
    "models.push": "engineer",
    "signers.add": "admin",
}
"""Verb on a noun -> least role."""


def authorise(principal: Principal, tenant: str, verb: str) -> None:
    """Lets a request pass or raises.

    The answer to a foreign tenant is the same whether that tenant exists or not.

    Raises:
        DeniedError: FORBIDDEN, naming the tenant or the role that is missing.
    """
    if principal.tenant not in (ALL_TENANTS, tenant):
        raise DeniedError(
            "FORBIDDEN",
            f"token {principal.name!r} is not of tenant {tenant!r}",
            hint="use a token of that tenant",
            tenant=tenant,
        )
    least = POLICY[verb]
    if principal.role not in ROLES or ROLES.index(principal.role) < ROLES.index(least):
        raise DeniedError(
            "FORBIDDEN",
            f"{verb} needs the role {least}, token {principal.name!r} has {principal.role}",
            hint=f"use a token with the role {least}",
            verb=verb,
            role=least,
        )

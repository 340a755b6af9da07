"""Paths of the REST API below a tenant."""

from __future__ import annotations

from urllib.parse import quote


def twin_path(site: str, twin: str) -> str:
    """A twin."""
    return f"/sites/{quote(site, safe='')}/twins/{quote(twin, safe='')}"


def gateway_path(site: str, gateway: str) -> str:
    """A gateway."""
    return f"/sites/{quote(site, safe='')}/gateways/{quote(gateway, safe='')}"


def model_path(reference: str) -> str:
    """A model version, of `name@version`."""
    name, _, version = reference.partition("@")
    return f"/models/{quote(name, safe='')}/versions/{quote(version, safe='')}"

"""Tenants, sites, invitations and tokens."""

from __future__ import annotations

import hashlib

import pytest

from tests.contract.plant import KEY, NOW
from twincloud.storage.contract import GatewayKey, Principal
from twinmodel.errors import ConflictError, DeniedError, InputError, MissingError


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def test_tenants_are_listed_with_the_first_one_first(store):
    store.create_tenant("zinc", NOW - 1)
    store.create_tenant("bronze", NOW + 1)
    assert store.tenants() == ("zinc", "acme", "bronze")


def test_sites_are_made_once_and_listed_in_order(store):
    store.create_site("acme", "dock", NOW)
    store.create_site("acme", "dock", NOW)
    assert store.sites("acme") == ("dock", "mill")
    assert store.sites("other") == ()
    with pytest.raises(MissingError, match="NOT_FOUND"):
        store.create_site("other", "dock", NOW)


def test_invitation_is_used_once_and_only_in_time(store):
    store.create_invite(KEY, digest("a"), NOW, NOW + 10)
    store.create_invite(KEY, digest("b"), NOW, NOW + 10)
    assert store.redeem_invite(digest("a"), NOW + 9) == KEY
    for token, now_ns in (("a", NOW), ("b", NOW + 10), ("c", NOW)):
        with pytest.raises(DeniedError, match="INVITE_INVALID"):
            store.redeem_invite(digest(token), now_ns)


def test_invitation_makes_site_and_gateway_and_each_site_has_its_own_names(store):
    at_dock = GatewayKey("acme", "dock", KEY.gateway)
    store.create_invite(at_dock, digest("a"), NOW, NOW + 10)
    assert store.gateway(at_dock).state == "invited"
    assert store.gateway(KEY).state == "active"
    assert "dock" in store.sites("acme")
    with pytest.raises(MissingError, match="NOT_FOUND"):
        store.create_invite(GatewayKey("nobody", "mill", "gw-7"), digest("c"), NOW, NOW + 10)


def test_token_says_who_asks_until_it_expires(store):
    store.create_token("ann", "acme", "engineer", digest("a"), NOW, NOW + 10)
    store.create_token("root", "*", "admin", digest("b"), NOW, 0)
    assert store.principal(digest("a"), NOW + 9) == Principal("ann", "acme", "engineer")
    assert store.principal(digest("b"), NOW * 2).tenant == "*"
    almost = digest("a")[:-1] + bytes([digest("a")[-1] ^ 1])
    for token, now_ns in ((digest("a"), NOW + 10), (digest("c"), NOW), (almost, NOW)):
        with pytest.raises(DeniedError, match="TOKEN_INVALID"):
            store.principal(token, now_ns)
    with pytest.raises(ConflictError, match="ALREADY_EXISTS"):
        store.create_token("eve", "acme", "admin", digest("a"), NOW, 0)
    with pytest.raises(InputError, match="REQUEST_INVALID"):
        store.principal(b"short", NOW)

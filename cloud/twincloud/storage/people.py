"""Tenants, sites, invitations and tokens; of every secret only its hash is kept.

A hash is looked up by its first bytes and compared in constant time as a whole, so that timing tells nothing of it.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from sqlalchemy import Connection, RowMapping, Select, bindparam, insert, select, update

from twincloud.storage import schema as t
from twincloud.storage.contract import GatewayKey, Principal
from twincloud.storage.models import check_tenant
from twincloud.storage.part import News, Part, record
from twincloud.storage.sessions import ACTIVE, SUSPENDED
from twinmodel.errors import ConflictError, DeniedError, InputError

_LOOKUP_BYTES = 8


class PeopleStore(Part):
    """Keeps who may come and who may ask; see `Identity`."""

    def create_tenant(self, tenant: str, now_ns: int) -> None:
        """See `Identity.create_tenant`."""
        with self._database.write() as connection:
            if connection.execute(_TENANT, {"tenant": tenant}).first() is None:
                connection.execute(insert(t.tenants), {"tenant": tenant, "created_ns": now_ns})

    def tenants(self) -> tuple[str, ...]:
        """See `Identity.tenants`."""
        with self._database.read() as connection:
            return tuple(connection.execute(_TENANTS).scalars())

    def create_site(self, tenant: str, site: str, now_ns: int) -> None:
        """See `Identity.create_site`; raises NOT_FOUND for an unknown tenant."""
        with self._database.write(tenant) as connection:
            _make_site(connection, tenant, site, now_ns)

    def sites(self, tenant: str) -> tuple[str, ...]:
        """See `Identity.sites`."""
        with self._database.read(tenant) as connection:
            return tuple(connection.execute(_SITES, {"tenant": tenant}).scalars())

    def create_invite(self, gateway: GatewayKey, token_hash: bytes, now_ns: int, expires_ns: int) -> None:
        """See `Identity.create_invite`; raises NOT_FOUND for an unknown tenant."""
        with self._database.write(gateway.tenant) as connection:
            _make_site(connection, gateway.tenant, gateway.site, now_ns)
            named = {"tenant": gateway.tenant, "site": gateway.site, "gateway": gateway.gateway}
            row = connection.execute(_GATEWAY, named).first()
            if row is None:
                connection.execute(insert(t.gateways), {**named, "created_ns": now_ns})
                row = connection.execute(_GATEWAY, named).one()
            invite = {"lookup": _lookup(token_hash), "token_hash": token_hash}
            self._insert_secret(connection, _INVITE, invite)
            whose = {"tenant": gateway.tenant, "gateway_id": row.id}
            connection.execute(insert(t.invites), {**invite, **whose, "created_ns": now_ns, "expires_ns": expires_ns})

    def redeem_invite(self, token_hash: bytes, now_ns: int) -> GatewayKey:
        """See `Identity.redeem_invite`; the gateway starts anew: a fork ends and its head boot is forgotten."""
        with self._database.write() as connection:
            row = _secret(connection, _INVITE, token_hash)
            if row is None or row["used_ns"] or row["expires_ns"] <= now_ns:
                raise DeniedError("INVITE_INVALID", "the invitation is unknown, used or expired")
            connection.execute(_USE, {"key": row["lookup"], "now_ns": now_ns})
            gateway = connection.execute(_BY_ID, {"id": row["gateway_id"]}).mappings().one()
            state = SUSPENDED if gateway["state"] == SUSPENDED else ACTIVE
            anew = {"state": state, "head_boot": None, "connected": False, "session": gateway["session"] + 1}
            connection.execute(_RESET, {"key": gateway["id"], **anew})
            key = GatewayKey(gateway["tenant"], gateway["site"], gateway["gateway"])
            record(connection, [News(key.tenant, key.site, "gateway", key.gateway, now_ns, {"state": state})])
            return key

    def create_token(self, name: str, tenant: str, role: str, token_hash: bytes, now_ns: int, expires_ns: int) -> None:
        """See `Identity.create_token`; the tenant `*` stands for all."""
        token = {"lookup": _lookup(token_hash), "token_hash": token_hash}
        with self._database.write() as connection:
            if tenant != "*":
                check_tenant(connection, tenant)
            self._insert_secret(connection, _TOKEN, token)
            facts = {"name": name, "tenant": tenant, "role": role, "created_ns": now_ns, "expires_ns": expires_ns}
            connection.execute(insert(t.tokens), {**token, **facts})

    def principal(self, token_hash: bytes, now_ns: int) -> Principal:
        """See `Identity.principal`."""
        with self._database.read() as connection:
            row = _secret(connection, _TOKEN, token_hash)
        if row is None or (row["expires_ns"] and row["expires_ns"] <= now_ns):
            raise DeniedError("TOKEN_INVALID", "the token is unknown or expired")
        return Principal(row["name"], row["tenant"], row["role"])

    def _insert_secret(
        self, connection: Connection, statement: Select[tuple[object, ...]], row: Mapping[str, object]
    ) -> None:
        if connection.execute(statement, {"lookup": row["lookup"]}).first() is not None:
            raise ConflictError("ALREADY_EXISTS", "this token exists already", hint="make a new one")


def _make_site(connection: Connection, tenant: str, site: str, now_ns: int) -> None:
    check_tenant(connection, tenant)
    if connection.execute(_SITE, {"tenant": tenant, "site": site}).first() is None:
        connection.execute(insert(t.sites), {"tenant": tenant, "site": site, "created_ns": now_ns})


def _secret(connection: Connection, statement: Select[tuple[object, ...]], token_hash: bytes) -> RowMapping | None:
    row = connection.execute(statement, {"lookup": _lookup(token_hash)}).mappings().first()
    # Compared also when nothing was found: both cases take the same path.
    same = hmac.compare_digest(row["token_hash"] if row is not None else bytes(len(token_hash)), token_hash)
    return row if row is not None and same else None


def _lookup(token_hash: bytes) -> bytes:
    if len(token_hash) < 2 * _LOOKUP_BYTES:
        raise InputError("REQUEST_INVALID", "a token hash has at least 16 bytes", hint="use SHA-256")
    return token_hash[:_LOOKUP_BYTES]


_TENANTS = select(t.tenants.c.tenant).order_by(t.tenants.c.created_ns, t.tenants.c.tenant)
_TENANT = select(t.tenants.c.tenant).where(t.tenants.c.tenant == bindparam("tenant"))
_SITE = select(t.sites.c.site).where(t.sites.c.tenant == bindparam("tenant"), t.sites.c.site == bindparam("site"))
_SITES = select(t.sites.c.site).where(t.sites.c.tenant == bindparam("tenant")).order_by(t.sites.c.site)
_GATEWAY = select(t.gateways.c.id).where(
    t.gateways.c.tenant == bindparam("tenant"),
    t.gateways.c.site == bindparam("site"),
    t.gateways.c.gateway == bindparam("gateway"),
)
_BY_ID = select(t.gateways).where(t.gateways.c.id == bindparam("id"))
_RESET = update(t.gateways).where(t.gateways.c.id == bindparam("key"))
_INVITE = select(t.invites).where(t.invites.c.lookup == bindparam("lookup"))
_USE = update(t.invites).where(t.invites.c.lookup == bindparam("key")).values(used_ns=bindparam("now_ns"))
_TOKEN = select(t.tokens).where(t.tokens.c.lookup == bindparam("lookup"))

"""Whether a twin still looks as it did: all that its view is made of, as values that are cheap to read and compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, func, select

from twincloud.storage import schema as t
from twincloud.storage.part import Part
from twincloud.storage.schema_twins import twin_records

Version = tuple[Any, ...]


class VersionStore(Part):
    """Reads versions of views; see `Versions`."""

    def commits(self) -> int | None:
        """See `Versions.commits`."""
        return self._database.commits

    def twin_versions(self, tenant: str, names: Sequence[tuple[str, str]]) -> list[Version | None]:
        """See `Versions.twin_versions`."""
        asked = [{"of_tenant": tenant, "of_site": site, "of_twin": twin} for site, twin in names]
        with self._database.read(tenant) as connection:
            found = {(row[0], row[1]): tuple(row) for row in self._database.read_many(connection, _VERSION, asked)}
        return [found.get(name) for name in names]


_SAID, _TWIN, _GATEWAY, _RUNS, _SENT = twin_records.c, t.twins.c, t.gateways.c, t.running.c, t.directives.c
_EARLIER = t.directives.alias("earlier")
_NEWEST = (
    select(func.max(_EARLIER.c.number))
    .where(_EARLIER.c.gateway_id == _TWIN.gateway_id, _EARLIER.c.target == _TWIN.twin)
    .correlate(t.twins)
    .scalar_subquery()
)
_VERSION = (
    select(
        _SAID.site, _SAID.twin, _SAID.revision, _SAID.updated_ns,
        _TWIN.revision, _TWIN.updated_ns, _TWIN.gateway_id, _TWIN.schema_id,
        _GATEWAY.last_block, _GATEWAY.connected, _GATEWAY.state, _GATEWAY.session, _GATEWAY.last_seen_ns,
        _GATEWAY.clock, _GATEWAY.offset_ns, _GATEWAY.backlog_samples, _GATEWAY.oldest_ns, _GATEWAY.certificate_until_ns,
        _RUNS.digest, _RUNS.name, _RUNS.tier, _RUNS.isolation, _SENT.number, _SENT.outcome, _SENT.reason,
    )
    .select_from(twin_records)
    .outerjoin(t.twins, (_TWIN.tenant == _SAID.tenant) & (_TWIN.site == _SAID.site) & (_TWIN.twin == _SAID.twin))
    .outerjoin(t.gateways, _GATEWAY.id == _TWIN.gateway_id)
    .outerjoin(t.running, (_RUNS.gateway_id == _TWIN.gateway_id) & (_RUNS.twin == _TWIN.twin))
    .outerjoin(t.directives, _SENT.number == _NEWEST)
    .where(
        _SAID.tenant == bindparam("of_tenant"), _SAID.site == bindparam("of_site"), _SAID.twin == bindparam("of_twin")
    )
)  # fmt: skip

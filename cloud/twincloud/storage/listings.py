"""Pages of what grows without end in a tenant: its directives and the losses of its gateways."""

from __future__ import annotations

from sqlalchemy import select

from twincloud.storage import schema as t
from twincloud.storage.contract import Directive, GatewayKey, Loss, Page
from twincloud.storage.fleet import loss_of
from twincloud.storage.mailbox import LISTED, directive_of
from twincloud.storage.paging import page_of, place_of
from twincloud.storage.part import Part, limited


class ListingStore(Part):
    """Reads pages; see `Listings`."""

    def directive_page(self, tenant: str, *, target: str = "", limit: int = 100, token: str = "") -> Page[Directive]:
        """See `Listings.directive_page`."""
        d, g = t.directives.c, t.gateways.c
        statement = select(*LISTED, g.site, g.gateway).join(t.gateways, g.id == d.gateway_id)
        statement = statement.where(g.tenant == tenant)
        if target:
            statement = statement.where(d.target == target)
        if token:
            statement = statement.where(d.number < place_of(token, int)[0])
        with self._database.read(tenant) as connection:
            rows = connection.execute(limited(statement.order_by(d.number.desc()), limit)).mappings().all()
        page = page_of(rows, limit, lambda row: (row["number"],))
        return Page(
            tuple(directive_of(row, GatewayKey(tenant, row["site"], row["gateway"])) for row in page.items),
            page.next_token,
        )

    def loss_page(self, key: GatewayKey, *, limit: int = 100, token: str = "") -> Page[Loss]:
        """See `Listings.loss_page`."""
        after = place_of(token, int)[0] if token else 0
        with self._database.read(key.tenant) as connection:
            statement = (
                select(t.losses, t.boots.c.boot)
                .join(t.boots, t.boots.c.id == t.losses.c.boot_id)
                .where(t.losses.c.gateway_id == self._gateway_id(connection, key), t.losses.c.id > after)
                .order_by(t.losses.c.id)
            )
            rows = connection.execute(limited(statement, limit)).mappings().all()
        page = page_of(rows, limit, lambda row: (row["id"],))
        return Page(tuple(loss_of(row, key) for row in page.items), page.next_token)

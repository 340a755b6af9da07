"""What a change demands of what is there, and how it is told that something is not there."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select

from twincloud.storage import schema_twins as t
from twincloud.storage.contract import TwinKey
from twincloud.storage.part import nearest
from twincloud.storage.records_twins import Demand
from twinmodel.errors import ConflictError, MissingError

NAMES_MAX = 2_000
"""Names compared for a hint at most: a typing error in a plant of 100,000 twins must not cost a second."""


def check_demand(demand: Demand, revision: int | None, what: str) -> None:
    """Lets a change of what has this revision (None: is not there) pass; raises ConflictError PRECONDITION_FAILED."""
    etag = "" if revision is None else f'"{revision}"'
    if demand.absent and revision is not None:
        hint = "send If-Match to change it, or use another name"
        raise ConflictError("PRECONDITION_FAILED", f"If-None-Match: {what} exists and is {etag}", hint=hint, etag=etag)
    wanted = demand.revisions
    if (demand.present and revision is None) or (wanted is not None and revision not in wanted):
        now = f"{what} is {etag} now" if etag else f"{what} does not exist"
        raise ConflictError("PRECONDITION_FAILED", f"If-Match: {now}", etag=etag)


def unknown_twin(connection: Connection, key: TwinKey) -> MissingError:
    """UNKNOWN_TWIN with the nearest name."""
    names = connection.execute(_NAMES, {"tenant": key.tenant, "site": key.site}).scalars().all()
    return MissingError("UNKNOWN_TWIN", f"no twin {key.twin!r} at site {key.site!r}{nearest(key.twin, names)}")


_C = t.twin_records.c
_NAMES = (
    select(_C.twin)
    .where(_C.tenant == bindparam("tenant"), _C.site == bindparam("site"))
    .order_by(_C.twin)
    .limit(NAMES_MAX)
)

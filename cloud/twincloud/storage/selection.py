"""What filters of twins, gateways and models may name, and which of it is a column."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, func, select

from twincloud.filters import Field, Fields, Kind
from twincloud.filters.fields import Path
from twincloud.filters.sql import Columns
from twincloud.storage import schema as t
from twincloud.storage.schema_twins import twin_records, twin_tags
from twincloud.twins.lifecycle import State

HEALTH: Final = ("ok", "warn", "bad", "offline")


def _value_fields(role: str, about: str) -> tuple[Field, ...]:
    return (
        Field(f"{role}.*.value", Kind.VALUE, about=about),
        Field(f"{role}.*.sigma", Kind.NUMBER, about="its standard deviation"),
        Field(f"{role}.*.unit", Kind.TEXT, about="its unit"),
        Field(f"{role}.*.quality", Kind.TEXT, one_of=("good", "uncertain", "bad"), about="class of its quality"),
        Field(f"{role}.*.t_event", Kind.TIME, about="when it was so"),
        Field(f"{role}.*.age", Kind.DURATION, about="how long ago that was"),
    )


TWIN_FIELDS: Final = Fields.of(
    (
        Field("site", Kind.TEXT),
        Field("twin", Kind.TEXT, about="its name"),
        Field("gateway", Kind.TEXT, about="the gateway that reports it"),
        Field("definition", Kind.TEXT, about="as the twin shows it"),
        Field("state", Kind.TEXT, one_of=tuple(str(state) for state in State)),
        Field("run", Kind.TEXT, one_of=("edge", "cloud")),
        Field("tags", Kind.NAMES, about='`tags has "line"`'),
        Field("tags.*", Kind.TEXT, about='`tags.line = "3"`'),
        Field("health", Kind.TEXT, one_of=HEALTH),
        Field("drifting", Kind.BOOLEAN),
        Field("revision", Kind.WHOLE),
        Field("updated", Kind.TIME),
        Field("freshness", Kind.DURATION, about="age of the newest measurement"),
        Field("model.desired", Kind.TEXT, about="`name@version`"),
        Field("model.running", Kind.TEXT, about="`name@version`"),
        Field("model.tier", Kind.TEXT),
        Field("model.outcome", Kind.TEXT),
        Field("properties", Kind.NAMES, about='`properties has "flow"`'),
        Field("innovation.*", Kind.NUMBER, about="measured minus predicted"),
        Field("drift.*", Kind.NUMBER, about="1 is the limit"),
    ),
    _value_fields("reported", "what counts as its value"),
    _value_fields("estimated", "what the model says"),
    _value_fields("predicted", "what the model foretells"),
    _value_fields("desired", "what people want"),
)

GATEWAY_FIELDS: Final = Fields(
    (
        Field("site", Kind.TEXT),
        Field("gateway", Kind.TEXT, about="its name"),
        Field("state", Kind.TEXT),
        Field("connected", Kind.BOOLEAN),
        Field("health", Kind.TEXT, one_of=HEALTH),
        Field("agent_version", Kind.TEXT),
        Field("clock", Kind.TEXT),
        Field("last_seen", Kind.TIME),
        Field("backlog_bytes", Kind.WHOLE),
        Field("backlog_samples", Kind.WHOLE),
        Field("oldest", Kind.TIME, about="oldest sample that waits there"),
        Field("samples", Kind.WHOLE),
        Field("certificate_until", Kind.TIME),
    )
)

MODEL_FIELDS: Final = Fields(
    (
        Field("name", Kind.TEXT),
        Field("version", Kind.TEXT),
        Field("digest", Kind.TEXT),
        Field("signer", Kind.TEXT),
        Field("size", Kind.WHOLE, about="bytes"),
        Field("created", Kind.TIME),
    )
)


def _tag(path: Path) -> ColumnElement[str]:
    found: ColumnElement[str] = (
        select(twin_tags.c.value)
        .where(
            twin_tags.c.tenant == twin_records.c.tenant,
            twin_tags.c.site == twin_records.c.site,
            twin_tags.c.twin == twin_records.c.twin,
            twin_tags.c.tag == path[-1],
        )
        .scalar_subquery()
    )
    return found


REPORTED: Final = (
    (t.twins.c.tenant == twin_records.c.tenant)
    & (t.twins.c.site == twin_records.c.site)
    & (t.twins.c.twin == twin_records.c.twin)
)
"""Joins `twins`, what gateways tell, to `twin_records`."""

TWIN_COLUMNS: Final[Columns] = {
    "site": twin_records.c.site,
    "twin": twin_records.c.twin,
    "gateway": func.nullif(func.coalesce(t.gateways.c.gateway, ""), ""),
    "state": twin_records.c.state,
    "run": twin_records.c.run,
    "tags.*": _tag,
}
"""Over `twin_records` joined with `gateways`."""

GATEWAY_COLUMNS: Final[Columns] = {
    "site": t.gateways.c.site,
    "gateway": t.gateways.c.gateway,
    "state": t.gateways.c.state,
    "connected": t.gateways.c.connected,
    "agent_version": t.gateways.c.agent_version,
    "last_seen": func.nullif(t.gateways.c.last_seen_ns, 0),
    "backlog_bytes": t.gateways.c.backlog_bytes,
    "backlog_samples": t.gateways.c.backlog_samples,
    "oldest": func.nullif(t.gateways.c.oldest_ns, 0),
    "samples": t.gateways.c.samples,
    "certificate_until": func.nullif(t.gateways.c.certificate_until_ns, 0),
}

MODEL_COLUMNS: Final[Columns] = {
    "name": t.models.c.name,
    "version": t.models.c.version,
    "digest": t.models.c.digest,
    "signer": t.models.c.signer,
    "size": t.models.c.size,
    "created": t.models.c.created_ns,
}

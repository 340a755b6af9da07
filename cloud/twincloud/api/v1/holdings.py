"""Shapes of what there is of a gateway's samples: those stored, those lost, and those it is asked to leave out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from twincloud.api.v1.schemas import Shape


class LossView(Shape):
    """One declared hole."""

    kind: Literal["GAP", "THINNED", "OUTAGE", "NOT_ACQUIRED", "EXPIRED"]
    reason: str
    device: str
    boot: str
    stream: str
    first_seq: int
    count: int
    from_time: str
    to_time: str | None


class LossList(Shape):
    """The loss ledger of a gateway."""

    items: list[LossView]
    next_page_token: str = ""


class WishRequest(Shape):
    """A coarser period to ask of a gateway: of signals of no twin, at most one sample in each; 0 ends it.

    It replaces the one before for the same stream and signal, and holds over restarts of both sides.
    """

    stream: Literal["state", "telemetry", "bulk"]
    signal: str = Field(default="", max_length=256, description="the only signal it is for; empty for all")
    period_s: float = Field(ge=0, le=86_400, multiple_of=0.001)
    ttl_s: int = Field(default=0, ge=0, le=366 * 86_400, description="after which it ends by itself, 0 for never")


class WishView(Shape):
    """A coarser period a gateway is asked for."""

    stream: str
    signal: str
    period_s: float
    until: str | None
    created: str
    created_by: str


class WishList(Shape):
    """Coarser periods a gateway is asked for."""

    items: list[WishView]
    next_page_token: str = ""


class SampleView(Shape):
    """One stored sample, as short as possible: signal, event time in ns, value, quality code."""

    signal: str
    t_ns: int
    value: float | int | bool | str | None
    quality: int


class SampleList(Shape):
    """Samples of a gateway in the database, in commit order; pass `next_page_token` as `after`.

    `archived` counts those in archived files, which are not listed: read them there, or by an export.
    """

    items: list[SampleView]
    next_page_token: str = ""
    archived: int = 0

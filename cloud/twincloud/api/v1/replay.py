"""Why a twin said what it said, and whether it can be computed again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.params import Path

from twincloud.api.auth import Access, allow
from twincloud.api.times import parse, to_text, to_text_or_none
from twincloud.api.v1.holdings import LossView
from twincloud.api.v1.paging import Site, TwinName
from twincloud.api.v1.schemas import DirectiveView, ModelView, Shape
from twincloud.api.views import directive_view, loss_view, model_view, scalar
from twincloud.replay.explain import Explanation, Seen, explain, quality_words, verdict_words
from twincloud.replay.verdict import Span
from twincloud.storage.contract import TwinKey
from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError
from twinmodel.quality import describe

SPAN_DEFAULT_NS = 3_600 * SECOND_NS
SPAN_MAX_NS = 86_400 * SECOND_NS

router = APIRouter(prefix="/api/v1/tenants/{t}", tags=["replay"])

Reader = Annotated[Access, Depends(allow("twins.read"))]
PropertyName = Annotated[str, Path(min_length=1, max_length=256)]


class SeenView(Shape):
    """One stored sample: `port` it feeds, quality as code word and in words, when and with which block it came."""

    port: str
    signal: str
    value: float | int | bool | str | None
    unit: str
    quality: str
    words: str
    time: str
    age_s: float
    block: str
    received: str | None
    committed: str | None


class SpanView(Shape):
    """Ticks with one verdict: `exact` or `NOT_REPLAYABLE(reason)`; `proof` is `kernel` (every bit) or `outputs`."""

    from_time: str
    to_time: str
    ticks: int
    verdict: str
    reason: str
    words: str
    proof: str
    model: str
    checkpoint: str | None


class ReplayView(Shape):
    """Verdicts over a period; `exact` and `ticks` count ticks."""

    twin: str
    from_time: str
    to_time: str
    ticks: int
    exact: int
    spans: list[SpanView]


class ExplanationView(Shape):
    """A value explained; parts that do not exist are null or empty."""

    twin: str
    property: str
    unit: str
    time: str
    said: dict[str, SeenView]
    inputs: list[SeenView]
    running: str
    model: ModelView | None
    assigned: DirectiveView | None
    checkpoint: str | None
    checkpoint_cause: str
    replay: SpanView | None
    losses: list[LossView]
    gateway: str
    clock: str
    clock_offset_s: float | None


@router.get("/sites/{s}/twins/{twin}/properties/{property}/explanation")
async def get_explanation(
    request: Request,
    access: Reader,
    s: Site,
    twin: TwinName,
    property: PropertyName,  # noqa: A002 - the name in the path
    at: Annotated[str, Query(max_length=64, description="RFC 3339; now")] = "",
) -> ExplanationView:
    """Why the twin says what it says: value, inputs, model, who put it there, checkpoint and replay verdict."""
    state = request.app.state
    at_ns = parse(at, "at") if at else state.clock.wall_ns() + SECOND_NS
    key = TwinKey(access.tenant, s, twin)
    return _explanation(await state.threads.run(explain, state.replayer, state.store, key, property, at_ns))


@router.get("/sites/{s}/twins/{twin}/replay")
async def get_replay(
    request: Request,
    access: Reader,
    s: Site,
    twin: TwinName,
    from_: Annotated[str, Query(alias="from", max_length=64, description="RFC 3339; an hour before `to`")] = "",
    to: Annotated[str, Query(max_length=64, description="RFC 3339; now")] = "",
) -> ReplayView:
    """Computes the estimates of a period again, at most a day, and says of every span whether that is exact."""
    state = request.app.state
    to_ns = parse(to, "to") if to else state.clock.wall_ns() + 1
    from_ns = parse(from_, "from") if from_ else to_ns - SPAN_DEFAULT_NS
    if not from_ns < to_ns <= from_ns + SPAN_MAX_NS:
        raise InputError("REQUEST_INVALID", "from: it must lie before `to`, by a day at most", field="from")
    spans = await state.threads.run(state.replayer.spans, TwinKey(access.tenant, s, twin), from_ns, to_ns)
    return ReplayView(
        twin=twin,
        from_time=to_text(from_ns),
        to_time=to_text(to_ns),
        ticks=sum(span.ticks for span in spans),
        exact=sum(span.ticks for span in spans if span.reason is None),
        spans=[_span(span) for span in spans],
    )


def _span(span: Span) -> SpanView:
    return SpanView(
        from_time=to_text(span.from_ns),
        to_time=to_text(span.to_ns),
        ticks=span.ticks,
        verdict=span.verdict,
        reason=span.reason or "",
        words=verdict_words(span),
        proof=span.proof,
        model=span.model,
        checkpoint=to_text_or_none(span.checkpoint_ns),
    )


def _seen(seen: Seen) -> SeenView:
    return SeenView(
        port=seen.port,
        signal=seen.signal,
        value=scalar(seen.value),
        unit=seen.unit,
        quality=describe(seen.quality),
        words=quality_words(seen.quality),
        time=to_text(seen.t_ns),
        age_s=seen.age_ns / SECOND_NS,
        block=seen.block,
        received=to_text_or_none(seen.received_ns),
        committed=to_text_or_none(seen.committed_ns),
    )


def _explanation(found: Explanation) -> ExplanationView:
    gateway = found.gateway
    offset_ns = None if gateway is None else gateway.offset_ns
    return ExplanationView(
        twin=found.key.twin,
        property=found.prop,
        unit=found.unit,
        time=to_text(found.t_ns),
        said={role: _seen(seen) for role, seen in found.said.items()},
        inputs=[_seen(seen) for seen in found.inputs],
        running=found.running,
        model=None if found.model is None else model_view(found.model),
        assigned=None if found.directive is None else directive_view(found.directive),
        checkpoint=to_text_or_none(found.checkpoint_ns),
        checkpoint_cause=found.checkpoint_cause,
        replay=None if found.verdict is None else _span(found.verdict),
        losses=[loss_view(loss) for loss in found.losses],
        gateway="" if gateway is None else gateway.key.gateway,
        clock="" if gateway is None else gateway.clock.name,
        clock_offset_s=None if offset_ns is None else offset_ns / SECOND_NS,
    )

"""From records of the store to shapes of the API: pure functions over a given `now_ns`."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from twincloud.api.alarm_views import counts_view
from twincloud.api.diagnosis import diagnose_gateway, diagnose_twin
from twincloud.api.times import to_text, to_text_or_none
from twincloud.api.v1.holdings import LossView, SampleView, WishView
from twincloud.api.v1.schemas import (
    BucketsView,
    DeadLetterView,
    DirectiveView,
    GatewayView,
    HistoryView,
    ModelStateView,
    ModelView,
    PropertyView,
    SeriesView,
    TwinView,
    ValueView,
)
from twincloud.storage.contract import (
    DeadLetter,
    Directive,
    Gateway,
    Loss,
    ModelVersion,
    Origin,
    Property,
    Series,
    Twin,
    TwinModel,
    Value,
    Wish,
)
from twincloud.storage.records_alarms import NO_MARKS, AlarmMarks
from twincloud.twins.buckets import Buckets, quality_of
from twincloud.twins.lifecycle import State
from twinmodel.clock import SECOND_NS
from twinmodel.quality import describe
from twinmodel.signal import Batch

Scalar = float | int | bool | str | None


def scalar(value: object) -> Scalar:
    """A value as JSON has it: numpy scalars become plain ones, NaN and infinity null, what is no Unicode U+FFFD."""
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float):
        return plain if math.isfinite(plain) else None
    if plain is None or isinstance(plain, bool | int):
        return plain
    text = str(plain)
    # A device may send half a surrogate pair, which no encoder of an answer takes.
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def value_view(value: Value | None) -> ValueView | None:
    """The value envelope; None for nothing, and for an estimate without its sigma."""
    if value is None:
        return None
    sigma = _finite(value.sigma)
    if value.origin is Origin.ESTIMATED and (sigma is None or sigma < 0):
        # Whatever store or stage it comes from: nobody could tell what such an estimate is worth.
        return None
    return ValueView(
        value=scalar(value.value),
        unit=value.unit,
        sigma=sigma,
        quality=describe(value.quality),
        t_event=to_text(value.t_event_ns),
        t_received=to_text(value.t_received_ns),
        t_committed=to_text(value.t_committed_ns),
        origin=value.origin.value,
        target_time=None if value.target_ns is None else to_text(value.target_ns),
        model=value.model,
        model_id=value.model_id,
        block=value.block,
        by=value.by,
    )


def _property_view(prop: Property) -> PropertyView:
    return PropertyView(
        name=prop.name,
        unit=prop.unit,
        signal=prop.signal,
        reported=value_view(prop.reported),
        estimated=value_view(prop.estimated),
        predicted=value_view(prop.predicted),
        replaced=value_view(prop.replaced),
        innovation=_finite(prop.innovation),
        drift=_finite(prop.drift),
        desired=value_view(prop.desired),
        delta=_finite(prop.delta),
        differs=prop.differs,
    )


def _model_state_view(model: TwinModel) -> ModelStateView:
    return ModelStateView(
        desired=model.desired,
        running=model.running,
        running_digest=model.running_digest,
        tier=model.tier,
        directive=model.directive,
        outcome=model.outcome,
        reason=model.reason,
        isolation=model.isolation,
    )


def newest_event_ns(twin: Twin) -> int | None:
    """Event time of the newest measured value, None when nothing was ever measured: what stands in makes none new."""
    return max((p.measured.t_event_ns for p in twin.properties if p.measured is not None), default=None)


def freshness_s(twin: Twin, now_ns: int) -> float | None:
    """Age of the newest reported value; a value from the future counts as new."""
    newest_ns = newest_event_ns(twin)
    return None if newest_ns is None else max(0.0, (now_ns - newest_ns) / SECOND_NS)


def lag_s(twin: Twin) -> float | None:
    """Time from event to commit of the newest reported value."""
    newest = max(
        (p.measured for p in twin.properties if p.measured is not None), key=lambda v: v.t_event_ns, default=None
    )
    return None if newest is None else max(0.0, (newest.t_committed_ns - newest.t_event_ns) / SECOND_NS)


def twin_view(
    twin: Twin, gateway: Gateway | None, *, now_ns: int, stale_ns: int, alarms: AlarmMarks = NO_MARKS
) -> TwinView:
    """A twin with its health and the sentence that explains it."""
    fresh_s = freshness_s(twin, now_ns)
    health, why = diagnose_twin(twin, gateway, fresh_s=fresh_s, now_ns=now_ns, stale_ns=stale_ns)
    return TwinView(
        tenant=twin.key.tenant,
        site=twin.key.site,
        twin=twin.key.twin,
        gateway=twin.gateway,
        definition=twin.definition,
        health=health,
        why=why,
        drifting=twin.drifting,
        freshness_s=fresh_s,
        revision=twin.revision,
        updated=to_text(twin.updated_ns),
        model=_model_state_view(twin.model),
        properties=[_property_view(p) for p in twin.properties],
        state=State(twin.state).value,
        run="cloud" if twin.run == "cloud" else "edge",
        tags=dict(twin.tags),
        record_revision=twin.record,
        alarms=counts_view(alarms),
    )


def gateway_view(gateway: Gateway, *, twins: int, now_ns: int, stale_ns: int) -> GatewayView:
    """A gateway with its health and the sentence that explains it; `twins` is how many it serves."""
    health, why = diagnose_gateway(gateway, now_ns=now_ns, stale_ns=stale_ns)
    return GatewayView(
        tenant=gateway.key.tenant,
        site=gateway.key.site,
        gateway=gateway.key.gateway,
        state=gateway.state,
        connected=gateway.connected,
        health=health,
        why=why,
        boot=gateway.boot,
        boot_counter=gateway.boot_counter,
        last_seen=to_text_or_none(gateway.last_seen_ns),
        clock=gateway.clock.name,
        clock_offset_s=None if gateway.offset_ns is None else gateway.offset_ns / SECOND_NS,
        agent_version=gateway.agent_version,
        backlog_bytes=gateway.backlog_bytes,
        backlog_samples=gateway.backlog_samples,
        oldest=to_text_or_none(gateway.oldest_ns),
        samples=gateway.samples,
        duplicates_refused=gateway.duplicates_refused,
        certificate_serial=gateway.certificate_serial,
        certificate_until=to_text_or_none(gateway.certificate_until_ns),
        twins=twins,
    )


def loss_view(loss: Loss) -> LossView:
    """One declared hole; an interval that is still open has no end."""
    return LossView.model_validate(
        {
            "kind": loss.kind,
            "reason": loss.reason,
            "device": loss.device,
            "boot": loss.boot,
            "stream": loss.stream.name.lower(),
            "first_seq": loss.first_seq,
            "count": loss.count,
            "from_time": to_text(loss.from_ns),
            "to_time": to_text_or_none(loss.to_ns),
        }
    )


def wish_view(wish: Wish) -> WishView:
    """One coarser period a gateway is asked for."""
    return WishView(
        stream=wish.stream.name.lower(),
        signal=wish.signal,
        period_s=wish.period_ns / SECOND_NS,
        until=to_text_or_none(wish.until_ns),
        created=to_text(wish.created_ns),
        created_by=wish.created_by,
    )


def sample_views(signal: str, batch: Batch) -> list[SampleView]:
    """The samples of one signal."""
    return [
        SampleView.model_construct(signal=signal, t_ns=t_ns, value=scalar(value), quality=code)
        for t_ns, value, code in zip(batch.t_ns.tolist(), batch.value.tolist(), batch.quality.tolist(), strict=True)
    ]


def history_view(prop: Property, series: dict[str, Series], *, from_ns: int, to_ns: int) -> HistoryView:
    """Columns by role."""
    columns = {
        role: SeriesView.model_construct(
            t_ns=run.t_ns.tolist(),
            value=[scalar(v) for v in run.value.tolist()],
            quality=run.quality.tolist(),
            truncated=run.truncated,
        )
        for role, run in series.items()
    }
    return HistoryView.model_construct(
        property=prop.name, unit=prop.unit, from_time=to_text(from_ns), to_time=to_text(to_ns), series=columns
    )


def bucket_view(
    prop: Property, found: Mapping[str, Buckets], resolution: str, points: int, *, from_ns: int, to_ns: int
) -> HistoryView:
    """Buckets by role, the newest `points` of them."""
    series = {}
    for role, buckets in found.items():
        cut = slice(max(0, len(buckets) - points), None)
        low, high, last, mean = (
            [_finite(v) for v in column[cut].tolist()]
            for column in (buckets.low, buckets.high, buckets.last, buckets.mean)
        )
        series[role] = SeriesView.model_construct(
            t_ns=buckets.start_ns[cut].tolist(),
            value=list(mean),
            quality=quality_of(buckets.worst[cut]).tolist(),
            truncated=len(buckets) > points,
            buckets=BucketsView.model_construct(
                low=low,
                high=high,
                last=last,
                count=buckets.count[cut].tolist(),
                usable=buckets.usable[cut].tolist(),
                bad=buckets.bad[cut].tolist(),
            ),
        )
    return HistoryView.model_construct(
        property=prop.name,
        unit=prop.unit,
        from_time=to_text(from_ns),
        to_time=to_text(to_ns),
        series=series,
        resolution=resolution,
    )


def model_view(model: ModelVersion) -> ModelView:
    """One model version."""
    return ModelView(
        name=model.name,
        version=model.version,
        digest=model.digest,
        model_id=model.model_id,
        signer=model.signer,
        size=model.size,
        created=to_text(model.created_ns),
        inputs=dict(model.inputs),
        outputs=dict(model.outputs),
    )


def directive_view(directive: Directive) -> DirectiveView:
    """One directive and how it ended."""
    return DirectiveView(
        id=directive.id,
        site=directive.gateway.site,
        gateway=directive.gateway.gateway,
        kind=directive.kind,
        target=directive.target,
        version=directive.version,
        name=directive.name,
        digest=directive.digest,
        created=to_text(directive.created_ns),
        created_by=directive.created_by,
        deadline=to_text_or_none(directive.deadline_ns),
        outcome=directive.outcome,
        reason=directive.reason,
        detail=directive.detail,
        ended=to_text_or_none(directive.ended_ns),
    )


def dead_letter_view(letter: DeadLetter) -> DeadLetterView:
    """One block that could not be read."""
    return DeadLetterView(
        id=letter.id,
        site=letter.gateway.site,
        gateway=letter.gateway.gateway,
        boot=letter.boot,
        stream=letter.stream.name.lower(),
        first_seq=letter.first_seq,
        last_seq=letter.last_seq,
        reason=letter.reason,
        received=to_text(letter.received_ns),
        size=letter.size,
    )

"""Why a twin or a gateway is not well: each rule gives a severity and one sentence with the number and the limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from twincloud.api.v1.schemas import Health
from twincloud.storage.contract import Gateway, Property, Twin
from twincloud.twins.lifecycle import MEANING, State
from twinmodel.clock import SECOND_NS, ClockQuality
from twinmodel.quality import QualityClass, QualityReason, class_of, describe

DRIFT_LIMIT = 1.0
AWAY_MAX_NS = 10 * SECOND_NS
CERTIFICATE_LEFT_MIN_NS = 3 * 86_400 * SECOND_NS
SEVERITIES: tuple[Health, ...] = ("offline", "bad", "warn", "ok")
"""Worst first; the order of "needs attention"."""

Finding = tuple[Health, str]


def severity(health: Health) -> int:
    """Rank of a health, 0 is the worst."""
    return SEVERITIES.index(health)


def diagnose_twin(twin: Twin, gateway: Gateway | None, *, fresh_s: float | None, now_ns: int, stale_ns: int) -> Finding:
    """Health of a twin and why.

    Args:
        twin: the twin.
        gateway: the gateway that serves it, None when it is not known.
        fresh_s: age of its newest reported value, None when there is none.
        now_ns: server time.
        stale_ns: age beyond which it is stale, three nominal periods.
    """
    meaning = MEANING[State(twin.state)]
    if not twin.gateway and twin.run == "edge":
        found: list[Finding] = [("warn", "no gateway reports it (rule: a twin in service is reported)")]
    else:
        found = [*_of_gateway(twin, gateway, now_ns), *_of_properties(twin), *_of_model(twin)]
    if fresh_s is None and twin.gateway:
        found.append(("warn", "no value has been reported yet (rule: one at least)"))
    elif fresh_s is not None and fresh_s * SECOND_NS > stale_ns:
        found.append(("warn", f"the newest value is {span(fresh_s)} old (limit {span(stale_ns / SECOND_NS)})"))
    if gateway is not None:
        found += _of_backlog(gateway, now_ns, stale_ns)
    health, why = _worst(found)
    if meaning.alarming or health == "ok":
        return health, why
    return "ok", f"{twin.state}, {meaning.text}: raises no alarm though {why}"


def diagnose_gateway(gateway: Gateway, *, now_ns: int, stale_ns: int) -> Finding:
    """Health of a gateway and why."""
    found = list(_of_link(gateway, now_ns))
    if gateway.state.lower() in ("suspended", "forked"):
        found.append(("bad", f"gateway {gateway.key.gateway} is {gateway.state.lower()} (rule: it must be active)"))
    left_ns = gateway.certificate_until_ns - now_ns
    if gateway.certificate_until_ns and left_ns <= 0:
        found.append(("bad", f"its certificate expired {span(-left_ns / SECOND_NS)} ago (rule: it must be valid)"))
    elif gateway.certificate_until_ns and left_ns < CERTIFICATE_LEFT_MIN_NS:
        limit = span(CERTIFICATE_LEFT_MIN_NS / SECOND_NS)
        found.append(("warn", f"its certificate expires in {span(left_ns / SECOND_NS)} (limit {limit})"))
    # FREE is a fact to show, no fault: such a clock runs, only nothing proves that it is right.
    if gateway.connected and gateway.clock is ClockQuality.UNSET:
        found.append(("warn", "its clock was never set, so that times are not trusted (rule: FREE or better)"))
    found += _of_backlog(gateway, now_ns, stale_ns)
    return _worst(found)


def is_away(gateway: Gateway, now_ns: int) -> bool:
    """Whether a gateway has been without a session for longer than the limit."""
    return not gateway.connected and now_ns - gateway.last_seen_ns > AWAY_MAX_NS


def span(seconds: float) -> str:
    """A duration as people say it: `4.2 s`, `90 s`, `12 min`, `5.5 h`, `3 d`."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7_200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3_600:.1f} h"
    return f"{seconds / 86_400:.0f} d"


def _worst(found: list[Finding]) -> Finding:
    return min(found, key=lambda finding: severity(finding[0]), default=("ok", ""))


def _of_link(gateway: Gateway, now_ns: int) -> Iterator[Finding]:
    if not is_away(gateway, now_ns):
        return
    name = gateway.key.gateway
    if not gateway.last_seen_ns:
        yield "offline", f"gateway {name} has never connected: run the join line"
        return
    away = span((now_ns - gateway.last_seen_ns) / SECOND_NS)
    yield "offline", f"gateway {name} has not been connected for {away} (limit {span(AWAY_MAX_NS / SECOND_NS)})"


def _of_gateway(twin: Twin, gateway: Gateway | None, now_ns: int) -> Iterator[Finding]:
    if not twin.gateway:
        return
    if gateway is None:
        yield "offline", f"gateway {twin.gateway} is not known (rule: each twin has one)"
        return
    yield from _of_link(gateway, now_ns)


def _of_backlog(gateway: Gateway, now_ns: int, stale_ns: int) -> Iterator[Finding]:
    age_ns = now_ns - gateway.oldest_ns
    if gateway.backlog_samples and gateway.oldest_ns and age_ns > stale_ns:
        age, limit = span(age_ns / SECOND_NS), span(stale_ns / SECOND_NS)
        waiting = f"{gateway.backlog_samples:,} samples wait on gateway {gateway.key.gateway}"
        yield "warn", f"{waiting}, the oldest for {age} (limit {limit})"


_CAUSES: Final = {
    "sensor": "; the sensor of {} is to blame, not the model",
    "model": "; no sensor explains it, the model is to blame",
    "not_isolable": "; sensor or model cannot be told apart",
    "pending": "; the cause is being isolated",
}


def _cause(isolation: str) -> str:
    kind, _, output = isolation.partition(":")
    return _CAUSES.get(kind, "").format(output)


def _of_properties(twin: Twin) -> Iterator[Finding]:
    if twin.drifting:
        worst = max(twin.properties, key=lambda p: abs(p.drift or 0.0), default=None)
        if worst is not None and worst.drift is not None:
            score = f"drift score {worst.drift:.3g} (limit {DRIFT_LIMIT:g})"
            yield "bad", f"the model has drifted from {worst.name}: {score}{_cause(twin.model.isolation)}"
        else:
            yield "bad", f"the model has drifted from the measurement (rule: drift score below {DRIFT_LIMIT:g})"
    reported = sum(p.reported is not None for p in twin.properties)
    for klass, health in ((QualityClass.BAD, "bad"), (QualityClass.UNCERTAIN, "warn")):
        hit = [p for p in twin.properties if p.reported is not None and class_of(p.reported.quality) is klass]
        if hit:
            yield _quality_finding(health, hit, reported)
    estimates = [p.estimated for p in twin.properties if p.estimated is not None]
    settling = sum(estimate.quality & 0xFF == QualityReason.SETTLING for estimate in estimates)
    if settling:
        waiting = f"{settling} of {len(estimates)} estimates not yet trusted (rule: all)"
        yield "warn", f"model is settling after a start or swap: {waiting}"


def _quality_finding(health: str, hit: list[Property], total: int) -> Finding:
    first = hit[0]
    assert first.reported is not None
    code = describe(first.reported.quality)
    if first.replaced is not None and first.reported.quality != first.replaced.quality:
        code += f" for {describe(first.replaced.quality)}"
    sentence = f"{len(hit)} of {total} measured values not good: {first.name} is {code} (rule: all good)"
    return ("bad" if health == "bad" else "warn"), sentence


def _of_model(twin: Twin) -> Iterator[Finding]:
    model = twin.model
    if model.outcome == "REJECTED":
        runs = model.running or "no model"
        why = model.reason or "no reason given"
        yield "bad", f"model {model.desired} was rejected ({why}) and {runs} runs (rule: the desired one runs)"
    elif model.desired and model.running and model.desired != model.running and model.outcome != "":
        yield "warn", f"{model.running} runs while {model.desired} is desired (rule: the desired one runs)"

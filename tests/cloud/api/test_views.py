"""Pure parts: times, percentiles, durations, and the rules that judge health."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twincloud.api.diagnosis import diagnose_gateway, diagnose_twin, span
from twincloud.api.fleet import nearest_rank, summarise
from twincloud.api.times import parse, to_text
from twincloud.api.v1.paging import seal, unseal
from twincloud.api.views import gateway_view, scalar
from twincloud.storage.contract import Gateway, GatewayKey, Origin, Property, Twin, TwinKey, TwinModel, Value
from twinmodel.clock import SECOND_NS, ClockQuality
from twinmodel.errors import TwinError
from twinmodel.quality import QualityReason, bad, uncertain

NOW = 1_700_000_000 * SECOND_NS
STALE = 30 * SECOND_NS
GATEWAY = Gateway(
    GatewayKey("a", "s", "g"), "active", connected=True, session=1, boot="", boot_counter=1, last_seen_ns=NOW,
    clock=ClockQuality.SYNCED, agent_version="", backlog_bytes=0, backlog_samples=0, oldest_ns=0, samples=0,
    duplicates_refused=0, certificate_serial="", certificate_until_ns=0,
)  # fmt: skip


def value(quality: int = 0, origin: Origin = Origin.MEASURED) -> Value:
    return Value(1.0, "m", quality, NOW, NOW, NOW, origin)


MODEL = TwinModel("m@1", "d", "m@1", "d", "edge", "", "APPLIED", "")
TWIN = Twin(
    TwinKey("a", "s", "t"), "g", "tank", (Property("level", "m", "d.level", value()),), MODEL, drifting=False,
    revision=1, updated_ns=NOW,
)  # fmt: skip


def judge(twin: Twin = TWIN, gateway: Gateway | None = GATEWAY, fresh_s: float | None = 1.0):
    return diagnose_twin(twin, gateway, fresh_s=fresh_s, now_ns=NOW, stale_ns=STALE)


def prop(**changed) -> tuple[Property, ...]:
    return (replace(TWIN.properties[0], **changed),)


@given(st.integers(-9_200_000_000 * SECOND_NS, 9_200_000_000 * SECOND_NS))
def test_time_comes_back_from_its_text_to_the_nanosecond(t_ns):
    assert parse(to_text(t_ns), "x") == t_ns


@given(st.text(max_size=40))
def test_text_that_is_no_time_is_refused_by_its_field(text):
    if re.fullmatch(r"-?\d{1,19}", text):
        return
    with pytest.raises(TwinError, match="REQUEST_INVALID: from: "):
        parse(text, "from")


@pytest.mark.parametrize(
    ("text", "t_ns"),
    [("1970-01-01T00:00:01Z", 10**9), ("1970-01-01T01:00:00.5+01:00", 5 * 10**8), ("12", 12), ("-3", -3)],
)
def test_times_are_read_with_offsets_and_as_nanoseconds(text, t_ns):
    assert parse(text, "x") == t_ns


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(1, 100))
def test_nearest_rank_is_the_least_value_that_covers_its_share(values, percent):
    found = nearest_rank(values, percent)
    assert found in values
    assert sum(v <= found for v in values) >= percent / 100 * len(values) - 1e-9
    assert sum(v < found for v in values) < percent / 100 * len(values) + 1e-9


def test_nearest_rank_of_nothing_is_nothing():
    assert nearest_rank([], 95) is None
    assert nearest_rank(list(range(1, 21)), 95) == 19


@given(st.text(max_size=50), st.text(min_size=1, max_size=100))
def test_page_token_opens_only_for_its_own_list(listing, inner):
    listing = listing.replace("\n", "")
    assert unseal(listing, seal(listing, inner)) == inner
    with pytest.raises(TwinError, match="REQUEST_INVALID"):
        unseal(listing + "x", seal(listing, inner))


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.2, "4.2 s"), (90, "90 s"), (720, "12 min"), (19_800, "5.5 h"), (3e5, "3 d")]
)
def test_durations_read_as_people_say_them(seconds, text):
    assert span(seconds) == text


def test_scalar_has_no_infinite_number():
    assert scalar(math.inf) is None
    assert scalar(math.nan) is None
    assert scalar(True) is True


def test_scalar_has_no_half_of_a_surrogate_pair():
    assert scalar("\ud83d aus \U0001f600") == "\ufffd aus \U0001f600"


def test_well_twin_is_ok_and_says_nothing():
    assert judge() == ("ok", "")


@pytest.mark.parametrize(
    ("judged", "health", "words"),
    [
        (lambda: judge(gateway=None), "offline", "gateway g is not known"),
        (lambda: judge(replace(TWIN, drifting=True, properties=prop(drift=7.31))), "bad", "score 7.31 (limit 1)"),
        (lambda: judge(replace(TWIN, drifting=True)), "bad", "below 1"),
        (
            lambda: judge(
                replace(
                    TWIN, drifting=True, properties=prop(drift=7.0), model=replace(MODEL, isolation="sensor:level")
                )
            ),
            "bad",
            "the sensor of level is to blame",
        ),
        (lambda: judge(replace(TWIN, properties=prop(reported=value(bad(QualityReason.STALE))))), "bad", "bad(STALE)"),
        (lambda: judge(replace(TWIN, properties=prop(reported=value(uncertain(QualityReason.RATE))))), "warn", "RATE"),
        (
            lambda: judge(replace(TWIN, properties=prop(estimated=value(QualityReason.SETTLING, Origin.ESTIMATED)))),
            "warn", "model is settling after a start or swap: 1 of 1 estimates not yet trusted (rule: all)",
        ),
        (lambda: judge(replace(TWIN, model=replace(MODEL, outcome="REJECTED", reason="PARITY"))), "bad", "PARITY"),
        (lambda: judge(replace(TWIN, model=replace(MODEL, running="m@0"))), "warn", "m@0 runs while m@1 is desired"),
        (lambda: judge(fresh_s=31), "warn", "31 s old (limit 30 s)"),
        (lambda: judge(fresh_s=None), "warn", "no value"),
        (
            lambda: judge(gateway=replace(GATEWAY, backlog_samples=5, oldest_ns=NOW - 60 * SECOND_NS)),
            "warn", "5 samples wait on gateway g, the oldest for 60 s (limit 30 s)",
        ),
    ],
)  # fmt: skip
def test_each_rule_gives_its_health_with_the_number(judged, health, words):
    found, why = judged()
    assert found == health
    assert words in why


def test_worst_rule_wins():
    away = replace(GATEWAY, connected=False, last_seen_ns=NOW - 60 * SECOND_NS)
    assert judge(replace(TWIN, drifting=True), away, 100)[0] == "offline"
    assert judge(replace(TWIN, drifting=True), GATEWAY, 100)[0] == "bad"


@pytest.mark.parametrize(
    ("changed", "health", "words"),
    [
        ({"connected": False, "last_seen_ns": NOW - 95 * SECOND_NS}, "offline", "been connected for 95 s (limit"),
        (
            {"connected": False, "last_seen_ns": 0, "state": "invited"}, "offline",
            "gateway g has never connected: run the join line",
        ),
        ({"state": "forked"}, "bad", "forked"),
        ({"certificate_until_ns": NOW - 86_400 * SECOND_NS}, "bad", "expired 24.0 h ago"),
        ({"certificate_until_ns": NOW + 86_400 * SECOND_NS}, "warn", "expires in 24.0 h (limit 3 d)"),
        ({"clock": ClockQuality.UNSET}, "warn", "its clock was never set"),
        ({"clock": ClockQuality.FREE}, "ok", ""),
        ({}, "ok", ""),
    ],
)  # fmt: skip
def test_gateway_is_judged_by_link_state_certificate_and_clock(changed, health, words):
    found, why = diagnose_gateway(replace(GATEWAY, **changed), now_ns=NOW, stale_ns=STALE)
    assert found == health
    assert words in why


def test_a_clock_that_runs_free_is_told_and_alarms_nobody():
    free = replace(GATEWAY, clock=ClockQuality.FREE)
    assert judge(gateway=free) == ("ok", "")
    assert gateway_view(free, twins=1, now_ns=NOW, stale_ns=STALE).clock == "FREE"
    assert summary([TWIN], [free]).attention == []


def test_every_reason_is_one_sentence():
    found = [
        judge(replace(TWIN, properties=prop(reported=value(bad(QualityReason.STALE))))),
        judge(replace(TWIN, model=replace(MODEL, outcome="REJECTED", reason="PARITY"))),
        judge(fresh_s=None),
        judge(gateway=None),
    ]
    for _, why in found:
        assert ";" not in why
        assert "(rule: " in why


def summary(twins, gateways):
    by_name = {(g.key.site, g.key.gateway): g for g in gateways}
    return summarise("a", ["s"], by_name, twins, now_ns=NOW, stale_ns=STALE, last_event=1).summary


def aged(name: str, gateway: str, age_s: float, lag_s: float) -> Twin:
    t_ns = round(NOW - age_s * SECOND_NS)
    newest = Value(1.0, "m", 0, t_ns, t_ns, round(t_ns + lag_s * SECOND_NS), Origin.MEASURED)
    older = Value(1.0, "m", 0, t_ns - 60 * SECOND_NS, t_ns, NOW, Origin.MEASURED)
    said = replace(newest, t_event_ns=NOW, origin=Origin.ESTIMATED)
    values = (Property("level", "m", "d.level", newest, said), Property("flow", "m", "d.flow", older))
    return replace(TWIN, key=TwinKey("a", "s", name), gateway=gateway, properties=values)


def test_freshness_and_lag_are_of_the_newest_measured_value_of_each_twin_that_is_connected():
    away = replace(GATEWAY, key=GatewayKey("a", "s", "away"), connected=False, last_seen_ns=NOW - 3_600 * SECOND_NS)
    twins = [aged(f"t{n}", "g", 0.1 * n, 0.05 * n) for n in range(1, 21)]
    found = summary([*twins, aged("old", "away", 3_600, 900)], [GATEWAY, away])
    assert found.freshness_p50_s == pytest.approx(1.0)
    assert found.freshness_p95_s == pytest.approx(1.9)
    assert found.lag_p95_s == pytest.approx(0.95)
    assert (found.ok, found.offline) == (20, 1)


def test_freshness_of_a_fleet_that_is_not_connected_is_not_known():
    away = replace(GATEWAY, connected=False)
    found = summary([aged("t", "g", 5, 1)], [away])
    assert (found.freshness_p50_s, found.freshness_p95_s, found.lag_p95_s) == (None, None, None)

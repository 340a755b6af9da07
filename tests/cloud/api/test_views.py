"""Pure parts: times, percentiles, durations, and the rules that judge health."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twincloud.api.diagnosis import diagnose_gateway, diagnose_twin, span
from twincloud.api.fleet import nearest_rank
from twincloud.api.times import parse, to_text
from twincloud.api.v1.paging import seal, unseal
from twincloud.api.views import scalar
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


@given(st.integers(-62_135_596_800 * SECOND_NS, 253_402_300_799 * SECOND_NS))
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


def test_well_twin_is_ok_and_says_nothing():
    assert judge() == ("ok", "")


@pytest.mark.parametrize(
    ("judged", "health", "words"),
    [
        (lambda: judge(gateway=None), "offline", "gateway g is not known"),
        (lambda: judge(replace(TWIN, drifting=True, properties=prop(drift=7.31))), "bad", "score 7.31 (limit 1)"),
        (lambda: judge(replace(TWIN, drifting=True)), "bad", "below 1"),
        (lambda: judge(replace(TWIN, properties=prop(reported=value(bad(QualityReason.STALE))))), "bad", "bad(STALE)"),
        (lambda: judge(replace(TWIN, properties=prop(reported=value(uncertain(QualityReason.RATE))))), "warn", "RATE"),
        (
            lambda: judge(replace(TWIN, properties=prop(estimated=value(QualityReason.SETTLING, Origin.ESTIMATED)))),
            "warn", "model settles: 1 of 1",
        ),
        (lambda: judge(replace(TWIN, model=replace(MODEL, outcome="REJECTED", reason="PARITY"))), "bad", "PARITY"),
        (lambda: judge(replace(TWIN, model=replace(MODEL, running="m@0"))), "warn", "m@0 runs, m@1 is desired"),
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
        ({"connected": False, "last_seen_ns": NOW - 95 * SECOND_NS}, "offline", "not connected for 95 s (limit 10 s)"),
        ({"connected": False, "last_seen_ns": 0}, "offline", "never"),
        ({"state": "forked"}, "bad", "forked"),
        ({"certificate_until_ns": NOW - 86_400 * SECOND_NS}, "bad", "expired 24.0 h ago"),
        ({"certificate_until_ns": NOW + 86_400 * SECOND_NS}, "warn", "expires in 24.0 h (limit 3 d)"),
        ({"clock": ClockQuality.FREE}, "warn", "clock is FREE"),
        ({}, "ok", ""),
    ],
)
def test_gateway_is_judged_by_link_state_certificate_and_clock(changed, health, words):
    found, why = diagnose_gateway(replace(GATEWAY, **changed), now_ns=NOW, stale_ns=STALE)
    assert found == health
    assert words in why

"""The most specific policy counts, and whole days go."""

from __future__ import annotations

import pytest

from twincloud.twins.retention import DAY_NS, FOR_EVER, POLICIES_MAX, Policy, Table, kept_from
from twinmodel.errors import InputError


@pytest.mark.parametrize(
    ("signal", "pattern"),
    [
        ("plc0.flow", "plc0.flow"),
        ("plc0.flows", "plc0.flow*"),
        ("plc0.flux", "plc0.fl??"),
        ("plc0.head", "plc0.*"),
        ("plc1.speed", "*.speed"),
        ("pump/flow#estimate", "*#estimate"),
        ("a[b]", "a[b]"),
        ("ab", "*"),
        ("", "*"),
    ],
)
def test_most_specific_pattern_counts(signal, pattern):
    names = ["*", "*.speed", "plc0.*", "plc0.fl??", "plc0.flow", "plc0.flow*", "a[b]", "*#estimate"]
    assert Table([Policy(name, 1) for name in names]).policy_of(signal).pattern == pattern


def test_signal_that_no_pattern_fits_is_kept_for_ever():
    assert Table([Policy("plc?", 1)]).policy_of("plc10") is FOR_EVER
    assert Table([]).policy_of("x").days(archived=True) == 0


def test_pattern_of_many_wildcards_takes_no_longer():
    assert Table([Policy("*a" * 120, 1)]).policy_of("a" * 119 + "b" * 120) is FOR_EVER


@pytest.mark.parametrize(
    "policies",
    [
        [Policy("")],
        [Policy("x" * 257)],
        [Policy("a\nb")],
        [Policy("a", -1)],
        [Policy("a", archive_days=36_501)],
        [Policy("a"), Policy("a", 1)],
        [Policy(str(n)) for n in range(POLICIES_MAX + 1)],
    ],
)
def test_what_is_no_policy_is_refused(policies):
    with pytest.raises(InputError):
        Table(policies)


def test_whole_days_go():
    assert [kept_from(days, 10 * DAY_NS + 5) for days in (0, 1, 10, 11)] == [0, 9 * DAY_NS, 0, 0]
    assert (Policy("*", 1, 2, 3).days(archived=False), Policy("*", 1, 2, 3).days(archived=True)) == (1, 3)

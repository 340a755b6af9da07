"""Writes the status document of an agent from what its stages say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any

from twinedge.estimate.runner import TwinRunner
from twinedge.lanes import Lanes
from twinedge.pipeline import Pipeline
from twinedge.ports import Driver, DriverHealth
from twinedge.uplink.status import UplinkStatus
from twinmodel.clock import SECOND_NS

NO_SPOOL: Mapping[str, Any] = {
    "bytes": 0, "backlog_bytes": 0, "backlog_samples": 0, "backlog_age_s": 0.0, "hours_until_full": None,
}  # fmt: skip
"""What is told of a spool that cannot even be read."""


_HEALTH = tuple(f.name for f in fields(DriverHealth))


def devices(drivers: Iterable[Driver]) -> list[dict[str, Any]]:
    """One entry per device."""
    return [_device(health) for driver in drivers for health in driver.health()]


def _device(health: DriverHealth) -> dict[str, Any]:
    document = {name: getattr(health, name) for name in _HEALTH}  # `asdict` copies each value: 20 ms for 500 devices
    age_ns = document.pop("age_ns")
    document["age_s"] = None if age_ns is None else age_ns / SECOND_NS
    return document


def twins(runners: Iterable[TwinRunner]) -> list[dict[str, Any]]:
    """One entry per twin that has a slot."""
    return [_twin(runner) for runner in runners]


def _twin(runner: TwinRunner) -> dict[str, Any]:
    estimator, last = runner.slot.current(), runner.last
    return {
        "twin": runner.wiring.twin,
        "model": "" if estimator is None else f"{estimator.package.name}@{estimator.package.version}",
        "digest": "" if estimator is None else estimator.package.digest.hex(),
        "tier": "" if estimator is None else estimator.tier,
        "steps": runner.steps,
        "late": runner.late,
        "swaps": runner.slot.swaps,
        "drifting": last is not None and last.drifting,
        "isolation": "" if last is None or last.isolation is None else last.isolation.verdict,
        "evidence": "" if last is None or last.isolation is None else last.isolation.evidence,
        "left_regime": [] if last is None else list(last.left),
        "rejected": 0 if estimator is None else estimator.rejections,
        "resets": 0 if estimator is None else estimator.resets,
        "soaking": runner.slot.soaking,
        "fallbacks": runner.slot.fallbacks,
        "settling": last is not None and last.settling,
        "substituted": dict(runner.substitution.since_ns()),
        "substituted_ticks": runner.substitution.ticks,
        "last_tick_ns": None if last is None else last.t_ns,
    }


def uplink(status: UplinkStatus | None) -> dict[str, Any]:
    """How the uplink stands; all zero for an agent that runs offline."""
    if status is None:
        return {
            "connected": False,
            "session": 0,
            "last_error": "offline by request",
            "needs_operator": False,
            "items_acked": 0,
            "items_sent": 0,
            "reconnects": 0,
            "certificate_until_ns": 0,
        }
    document = asdict(status)
    document.pop("marks")
    return document


def buffers(lanes: Lanes, pipeline: Pipeline, backlog: Mapping[str, Any]) -> dict[str, Any]:
    """Spool and lanes."""
    return {
        "spool": {
            **backlog,
            "commits": pipeline.commits,
            "errors": pipeline.refused,
            "trouble": "" if pipeline.trouble is None else str(pipeline.trouble),
        },
        "lanes": {"samples": len(lanes), "pushed_out": lanes.pushed_out},
    }

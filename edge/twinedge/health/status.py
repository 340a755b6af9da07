"""The status of an agent as one plain document, and the same numbers as Prometheus metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from twinmodel.clock import SECOND_NS

Status = Mapping[str, Any]
"""Document of `/status`: {gateway, version, boot, degraded, devices[], twins[], spool, lanes, uplink}."""


class StatusCollector(Collector):
    """Turns the newest status document into metrics; names and units are listed in docs/metrics.md."""

    def __init__(self, newest: Callable[[], Status | None]) -> None:
        self._newest = newest

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        status = self._newest()
        if status is None:
            return
        yield _degraded(status["degraded"])
        yield from _devices(status["devices"])
        yield from _twins(status["twins"])
        if "alarms" in status:
            yield from _alarms(status["alarms"])
        yield from _commands(status.get("commands", {"results": {}, "open": []}))
        yield from _northbound(status.get("northbound", {}))
        spool, uplink = status["spool"], status["uplink"]
        yield _gauge("spool_bytes", "Bytes of the spool on disk.", spool["bytes"])
        yield _gauge("spool_backlog_samples", "Samples that wait for the coordinator.", spool["backlog_samples"])
        yield _gauge("spool_backlog_age_seconds", "Age of the oldest sample that waits.", spool["backlog_age_s"])
        yield _gauge("spool_full_in_seconds", "Until the spool is full at the present rate.", _seconds_left(spool))
        yield _counter("spool_commits", "Commits of the spool.", spool["commits"])
        yield _counter("spool_errors", "Commits the disk refused.", spool["errors"])
        yield _gauge("lanes_samples", "Samples in memory on their way to the spool.", status["lanes"]["samples"])
        yield _counter("lanes_pushed_out_samples", "Samples declared lost in memory.", status["lanes"]["pushed_out"])
        yield _gauge("uplink_connected", "1 while a session with the coordinator is open.", uplink["connected"])
        yield _counter("uplink_acknowledged_items", "Items the coordinator committed.", uplink["items_acked"])
        yield _counter("uplink_reconnects", "Sessions opened after the first.", uplink["reconnects"])
        yield _gauge(
            "certificate_expiry_seconds", "End of our certificate.", uplink["certificate_until_ns"] / SECOND_NS
        )


def registry(newest: Callable[[], Status | None]) -> CollectorRegistry:
    """A registry of its own, with the numbers of the process."""
    made = CollectorRegistry()
    made.register(StatusCollector(newest))
    ProcessCollector(namespace="twinedge", registry=made)
    return made


def room_of(spool: Mapping[str, Any]) -> str:
    """How long the spool lasts without its coordinator, in words."""
    hours = spool.get("hours_until_full")
    return "nothing to tell yet when it is full" if hours is None else f"full after {hours:.1f} h alone"


def _devices(devices: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    connected = GaugeMetricFamily("twinedge_device_connected", "1 while the device answers.", labels=["device"])
    samples = CounterMetricFamily("twinedge_device_samples", "Samples read from the device.", labels=["device"])
    errors = CounterMetricFamily("twinedge_device_errors", "Failed requests and refused payloads.", labels=["device"])
    for device in devices:
        connected.add_metric([device["device"]], float(device["connected"]))
        samples.add_metric([device["device"]], device["samples"])
        errors.add_metric([device["device"]], device["errors"])
    yield from (connected, samples, errors)


def _twins(twins: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    steps = CounterMetricFamily("twinedge_model_steps", "Ticks the twin's model has stepped.", labels=["twin"])
    swaps = CounterMetricFamily("twinedge_model_swaps", "Models swapped in while running.", labels=["twin"])
    drifting = GaugeMetricFamily("twinedge_model_drifting", "1 while model and machine disagree.", labels=["twin"])
    cause = GaugeMetricFamily("twinedge_model_drift_cause", "1 for the cause found.", labels=["twin", "isolation"])
    rejected = CounterMetricFamily("twinedge_model_rejected", "Measurements kept out of the state.", labels=["twin"])
    outside = GaugeMetricFamily("twinedge_model_outside_regime", "1 while outside its regime.", labels=["twin"])
    fallbacks = CounterMetricFamily("twinedge_model_fallbacks", "New models that failed their soak.", labels=["twin"])
    stands_in = CounterMetricFamily("twinedge_model_substituted", "Values the model stood in for.", labels=["twin"])
    for twin in twins:
        stands_in.add_metric([twin["twin"]], twin["substituted_ticks"])
        steps.add_metric([twin["twin"]], twin["steps"])
        swaps.add_metric([twin["twin"]], twin["swaps"])
        fallbacks.add_metric([twin["twin"]], twin["fallbacks"])
        drifting.add_metric([twin["twin"]], float(twin["drifting"]))
        rejected.add_metric([twin["twin"]], twin["rejected"])
        outside.add_metric([twin["twin"]], float(bool(twin["left_regime"])))
        if twin["drifting"]:
            cause.add_metric([twin["twin"], twin["isolation"]], 1.0)
    yield from (steps, swaps, fallbacks, drifting, cause, rejected, outside, stands_in)


def _degraded(reasons: Iterable[str]) -> Metric:
    degraded = GaugeMetricFamily("twinedge_degraded", "1 for each reason the agent is degraded.", labels=["reason"])
    for reason in reasons:
        degraded.add_metric([reason], 1.0)
    return degraded


def _northbound(parts: Mapping[str, Any]) -> Iterator[Metric]:
    serving = GaugeMetricFamily("twinedge_northbound_serving", "1 while it is served on site.", labels=["part"])
    values = CounterMetricFamily("twinedge_northbound_values", "Values told to clients on site.", labels=["part"])
    clients = GaugeMetricFamily("twinedge_northbound_clients", "Sessions of clients on site.", labels=["part"])
    for name, part in parts.items():
        serving.add_metric([name], float(part["serving"]))
        values.add_metric([name], part["values"])
        if "clients" in part:
            clients.add_metric([name], part["clients"])
    yield from (serving, values, clients)


def _alarms(alarms: Mapping[str, Any]) -> Iterator[Metric]:
    active = GaugeMetricFamily("twinedge_alarms_active", "Alarms whose condition holds.", labels=["priority"])
    for priority, count in alarms["active"].items():
        active.add_metric([priority], count)
    states = GaugeMetricFamily("twinedge_alarms", "Alarms by state.", labels=["state"])
    for state, count in alarms["states"].items():
        states.add_metric([state], count)
    yield from (active, states)
    yield _gauge("alarms_chattering", "Alarms whose repeats are folded.", alarms["chattering"])
    yield _counter("alarms_raised", "Times an alarm was raised.", alarms["raised"])
    yield _counter("alarm_records", "Steps of alarms recorded.", alarms["records"])


def _commands(commands: Mapping[str, Any]) -> Iterator[Metric]:
    results = CounterMetricFamily("twinedge_commands", "Commands refused, or ended how.", labels=["result"])
    for result in ("refused", "succeeded", "failed", "unknown"):
        results.add_metric([result], commands["results"].get(result, 0))
    yield results
    yield _gauge("commands_open", "Commands that are not ended.", len(commands["open"]))


def _seconds_left(spool: Mapping[str, Any]) -> float:
    hours = spool.get("hours_until_full")
    return math.inf if hours is None else hours * 3600


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"twinedge_{name}", text, value=float(value))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"twinedge_{name}", text, value=float(value))

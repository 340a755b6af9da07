"""Metrics of the coordinator in a registry of their own: `twincloud_*`, base units, no tenant's name in a label."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from twincloud.storage.contract import StoreStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SERIES_MAX = 2_000
"""Series found at once; others are looked up each time."""
_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Metrics:
    """All counters and gauges of the process; other stages add theirs to `registry`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(namespace="twincloud", registry=self.registry)
        self._requests = Counter(
            "twincloud_http_requests", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "twincloud_http_request_seconds", "Time to answer", ["route"], buckets=_SECONDS, registry=self.registry
        )
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.watchers = Gauge("twincloud_event_streams", "Event streams open", registry=self.registry)
        self.enrolments = Counter("twincloud_enrolments", "Enrolments by outcome", ["outcome"], registry=self.registry)
        self.ingested = Counter("twincloud_ingested_samples", "Samples committed", registry=self.registry)
        self.refused = Counter("twincloud_refused_items", "Items kept as dead letters", registry=self.registry)
        self.unreadable = Counter(
            "twincloud_unreadable_alarms", "Records of alarms that were none", registry=self.registry
        )
        self.sessions = Gauge("twincloud_sessions", "Gateways connected", registry=self.registry)
        self.pending = Gauge("twincloud_ingest_pending_bytes", "Received and not yet committed", registry=self.registry)
        self._bytes = Gauge("twincloud_store_bytes", "Size of the store", registry=self.registry)
        self._blocks = Gauge("twincloud_store_blocks", "Blocks stored", registry=self.registry)
        self._samples = Gauge("twincloud_store_samples", "Samples stored", registry=self.registry)
        self._dead = Gauge("twincloud_store_dead_letters", "Blocks that could not be read", registry=self.registry)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one answer; event streams count, but say nothing of latency."""
        # A method is whatever a stranger sends; each new one would be a series kept for ever.
        counted = self._series.get((method, route, status))
        if counted is None:
            named = method if method in _METHODS else "other"
            counted = (self._requests.labels(named, route, str(status)), self._seconds.labels(route))
            if named == method and len(self._series) < SERIES_MAX:
                self._series[method, route, status] = counted
        counted[0].inc()
        if not route.endswith("/events"):
            counted[1].observe(seconds)

    def text(self, status: StoreStatus) -> bytes:
        """The exposition, with the store's facts of this moment."""
        self._bytes.set(status.bytes)
        self._blocks.set(status.blocks)
        self._samples.set(status.samples)
        self._dead.set(status.dead_letters)
        return generate_latest(self.registry)

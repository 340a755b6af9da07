"""A Sparkplug host with one node and its pump, without a broker, and what came out of it."""

from __future__ import annotations

from tests.edge.drivers.sparkplug_node import T0_MS, arrival
from twinedge.drivers.link import Columns, DeviceLink
from twinedge.drivers.mqtt_feed import Now
from twinedge.drivers.sparkplug import SparkplugHost
from twinmodel.clock import ManualClock
from twinmodel.quality import GOOD

NODE_POINTS = {"temp": {"at": "Env/Temp"}, "count": {"at": "Count", "as": "int64"}}
PUMP_POINTS = {"flow": {"at": "Flow", "unit": "m3/h"}, "on": {"at": "Running", "as": "bool"}}
METRICS = {
    "": [("Env/Temp", "Double", 21.5, 1), ("Count", "Int32", -5, 2), ("Other", "String", "x", 3)],
    "pump": [("Flow", "Float", 4.5, 10), ("Running", "Boolean", True, 11)],
}


class Line:
    """A host with one node and its pump, and everything that came out of it."""

    def __init__(self, assign, *, rebirth=True, primary=None, node_points=None):
        broker = {"url": "mqtt://127.0.0.1:1"}
        sparkplug = {"defaults": {"payload": "sparkplug"}}
        assignments, _ = assign(
            ("n", {"mqtt": broker, "root": "G/N"}, sparkplug | {"points": node_points or NODE_POINTS}),
            ("p", {"mqtt": broker, "root": "G/N/pump"}, sparkplug | {"points": PUMP_POINTS}),
        )
        self.clock = ManualClock(wall_ns=(T0_MS + 10_000_000) * 10**6)
        self.links = [DeviceLink(a, self.clock) for a in assignments]
        self.host = SparkplugHost(self.links, primary, rebirth=rebirth)
        self.host.connected()
        self.rows = []

    def now(self):
        return Now(self.clock.boot_ns(), self.clock.wall_ns())

    def hear(self, *messages, **more):
        """Feeds messages; returns the samples they became."""
        columns = Columns()
        for message in messages:
            self.host.receive(arrival(*message, **more), self.now(), columns)
        return self.rows_of(columns)

    def rows_of(self, columns):
        rows = []
        for batch in columns.batches():
            rows += zip(
                batch.signal.tolist(), batch.value.tolist(), batch.quality.tolist(), batch.t_ns.tolist(), strict=True
            )
        rows.sort(key=lambda r: r[0])
        self.rows += rows
        return rows

    def asked(self):
        return [s for s in self.host.outgoing(self.clock.boot_ns(), self.clock.wall_ns()) if "/NCMD/" in s.topic]


def values(rows):
    return {row[0]: row[1] for row in rows if row[2] == GOOD}


def qualities(rows):
    return {row[0]: row[2] for row in rows}

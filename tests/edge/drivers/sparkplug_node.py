"""A Sparkplug edge node for tests: births, data and deaths as the specification has them."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

from twinsync.v1.sparkplug_pb2 import SparkplugPayload

FIELDS = {
    **dict.fromkeys((1, 2, 3, 5, 6, 7), "int_value"),
    **dict.fromkeys((4, 8, 13), "long_value"),
    **dict.fromkeys((12, 14, 15), "string_value"),
    9: "float_value",
    10: "double_value",
    11: "boolean_value",
    16: "dataset_value",
    17: "bytes_value",
    19: "template_value",
    22: "bytes_value",
}
NAMES = "Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 Float Double Boolean String DateTime Text UUID DataSet Bytes"
TYPES = {name: number for number, name in enumerate(NAMES.split(), 1)} | {"Template": 19, "Int8Array": 22}
T0_MS = 1_750_000_000_000
MASKS = {"int_value": (1 << 32) - 1, "long_value": (1 << 64) - 1}


def add(payload, name=None, datatype=None, value=None, alias=None, t_ms=None, historical=False, **more):
    """Appends one metric; `value` None is null."""
    metric = payload.metrics.add(**more)
    if name is not None:
        metric.name = name.encode() if isinstance(name, str) else name
    if alias is not None:
        metric.alias = alias
    if datatype is not None:
        metric.datatype = TYPES[datatype]
    if t_ms is not None:
        metric.timestamp = t_ms
    if historical:
        metric.is_historical = True
    if value is None:
        metric.is_null = True
    elif value is not ...:
        field = FIELDS[TYPES[datatype or "Double"]]
        masked = value & MASKS[field] if field in MASKS else value
        setattr(metric, field, masked.encode() if isinstance(masked, str) else masked)
    return metric


class Node:
    """Makes (topic, payload) pairs; `metrics` is {device: [(name, datatype, value, alias)]}, "" for the node's own."""

    def __init__(self, metrics, group="G", name="N"):
        self.metrics, self.group, self.name = metrics, group, name
        self.bd_seq = -1
        self.seq = itertools.count()
        self.t_ms = T0_MS

    def topic(self, kind, device=""):
        return "/".join(["spBv1.0", self.group, kind, self.name] + ([device] if device else []))

    def payload(self):
        self.t_ms += 1000
        return SparkplugPayload(timestamp=self.t_ms, seq=next(self.seq) % 256)

    def nbirth(self):
        self.bd_seq += 1
        self.seq = itertools.count()
        payload = self.payload()
        add(payload, "bdSeq", "Int64", self.bd_seq)
        return self._birth("NBIRTH", "", payload)

    def dbirth(self, device):
        return self._birth("DBIRTH", device, self.payload())

    def _birth(self, kind, device, payload):
        for name, datatype, value, alias in self.metrics.get(device, []):
            add(payload, name, datatype, value, alias)
        return self.topic(kind, device), payload.SerializeToString()

    def births(self):
        return [self.nbirth(), *(self.dbirth(device) for device in self.metrics if device)]

    def data(self, *metrics, device=""):
        """Metrics are keyword dictionaries of `add`."""
        payload = self.payload()
        for metric in metrics:
            add(payload, **metric)
        return self.topic("DDATA" if device else "NDATA", device), payload.SerializeToString()

    def ndeath(self, bd_seq=None):
        payload = SparkplugPayload(timestamp=self.t_ms)
        add(payload, "bdSeq", "Int64", self.bd_seq if bd_seq is None else bd_seq)
        return self.topic("NDEATH"), payload.SerializeToString()

    def ddeath(self, device):
        return self.topic("DDEATH", device), self.payload().SerializeToString()


def arrival(topic, payload, *, retain=False, size=None):
    """A message as the driver's inbox holds it."""
    size = len(payload) if size is None else size
    return SimpleNamespace(topic=topic, payload=payload, size=size, mid=1, qos=0, dup=False, retain=retain)

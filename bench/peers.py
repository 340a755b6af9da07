"""Other ways to pack the same samples, each as its users would: bytes out, the samples back, nothing lost.

A peer whose package is not installed is left out. All but Gorilla are compressed with zstd level 1, as ours is. Peers
get the samples sorted by signal, which suits them best, and keep signal, time, value and quality (Gorilla no quality).
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import zstandard
from numpy.typing import NDArray

from twinmodel.clock import MILLISECOND_NS
from twinmodel.signal import Batch, Catalogue


@dataclass(frozen=True, slots=True)
class Table:
    """Samples of one block as flat columns in canonical order; `start` are the first of each signal, and the end."""

    names: tuple[str, ...]
    signal: NDArray[np.uint32]
    t_ns: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.uint16]
    start: NDArray[np.int64]

    @staticmethod
    def of(batches: list[Batch], catalogue: Catalogue) -> Table:
        """The columns of batches in canonical order; all kinds become doubles, as peers have no others."""
        signal = np.concatenate([b.signal for b in batches])
        edges = np.flatnonzero(signal[1:] != signal[:-1]) + 1
        return Table(
            tuple(s.name for s in catalogue.signals),
            signal,
            np.concatenate([b.t_ns for b in batches]),
            np.concatenate([b.value.astype(np.float64) for b in batches]),
            np.concatenate([b.quality for b in batches]),
            np.concatenate(([0], edges, [len(signal)])).astype(np.int64),
        )

    def __len__(self) -> int:
        return len(self.signal)


@dataclass(frozen=True, slots=True)
class Peer:
    """A way to pack; `decode` gives times and values back."""

    encode: Callable[[Table], bytes]
    decode: Callable[[Table, bytes], tuple[NDArray[np.int64], NDArray[np.float64]]]


NAMES = ("json", "otlp", "arrow", "gorilla")


def peers() -> Mapping[str, Peer | None]:
    """The peers by name; None for one whose package is missing."""
    makers = {"json": _json, "otlp": _otlp, "arrow": _arrow, "gorilla": _gorilla}
    found: dict[str, Peer | None] = {}
    for name in NAMES:
        try:
            found[name] = makers[name]()
        except ImportError:
            found[name] = None
    return found


def _json() -> Peer:
    squeeze, expand = zstandard.ZstdCompressor(level=1), zstandard.ZstdDecompressor()

    def encode(table: Table) -> bytes:
        rows = zip(
            table.signal.tolist(), table.t_ns.tolist(), table.value.tolist(), table.quality.tolist(), strict=True
        )
        samples = [{"name": table.names[s], "t": t // MILLISECOND_NS, "v": v, "q": q} for s, t, v, q in rows]
        return squeeze.compress(json.dumps(samples, separators=(",", ":")).encode())

    def decode(_table: Table, raw: bytes) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        samples = json.loads(expand.decompress(raw))
        t_ms = np.array([s["t"] for s in samples], np.int64)
        return t_ms * MILLISECOND_NS, np.array([s["v"] for s in samples], np.float64)

    return Peer(encode, decode)


def _otlp() -> Peer:
    message = _otlp_message()
    squeeze, expand = zstandard.ZstdCompressor(level=1), zstandard.ZstdDecompressor()

    def encode(table: Table) -> bytes:
        request = message()
        edges = table.start.tolist()
        t_ns, value, quality = table.t_ns.tolist(), table.value.tolist(), table.quality.tolist()
        for low, high in pairwise(edges):
            metric = request.metrics.add(name=table.names[table.signal[low]])
            for i in range(low, high):
                metric.points.add(time_unix_nano=t_ns[i], as_double=value[i], flags=quality[i])
        return squeeze.compress(request.SerializeToString())

    def decode(_table: Table, raw: bytes) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        request = message.FromString(expand.decompress(raw))
        points = [(p.time_unix_nano, p.as_double) for metric in request.metrics for p in metric.points]
        t_ns, value = zip(*points, strict=True)
        return np.array(t_ns, np.int64), np.array(value)

    return Peer(encode, decode)


def _otlp_message() -> type:
    """Metrics, their number data points: field numbers and types of opentelemetry's metrics.proto, without labels."""
    descriptor = importlib.import_module("google.protobuf.descriptor_pb2")
    pool = importlib.import_module("google.protobuf.descriptor_pool").DescriptorPool()
    factory = importlib.import_module("google.protobuf.message_factory")
    field = descriptor.FieldDescriptorProto
    file = descriptor.FileDescriptorProto(name="otlp_like.proto", package="otlp_like", syntax="proto3")
    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    shapes = {
        "Point": [
            ("time_unix_nano", 3, field.TYPE_FIXED64, one, ""),
            ("as_double", 4, field.TYPE_DOUBLE, one, ""),
            ("flags", 8, field.TYPE_UINT32, one, ""),
        ],
        "Metric": [
            ("name", 1, field.TYPE_STRING, one, ""),
            ("points", 5, field.TYPE_MESSAGE, many, ".otlp_like.Point"),
        ],
        "Request": [("metrics", 2, field.TYPE_MESSAGE, many, ".otlp_like.Metric")],
    }
    for name, fields in shapes.items():
        shape = file.message_type.add(name=name)
        for label, number, type_, repeated, type_name in fields:
            shape.field.add(name=label, number=number, type=type_, label=repeated, type_name=type_name or None)
    pool.Add(file)
    found: type = factory.GetMessageClass(pool.FindMessageTypeByName("otlp_like.Request"))
    return found


def _arrow() -> Peer:
    pa = importlib.import_module("pyarrow")
    ipc = importlib.import_module("pyarrow.ipc")
    options = ipc.IpcWriteOptions(compression=pa.Codec("zstd", 1))

    def encode(table: Table) -> bytes:
        columns = {
            "signal": table.signal.astype(np.uint16),
            "t": pa.array(table.t_ns // MILLISECOND_NS, pa.timestamp("ms")),
            "value": table.value,
            "quality": table.quality,
        }
        sink = pa.BufferOutputStream()
        batch = pa.record_batch(columns)
        with ipc.new_stream(sink, batch.schema, options=options) as writer:
            writer.write_batch(batch)
        packed: bytes = sink.getvalue().to_pybytes()
        return packed

    def decode(_table: Table, raw: bytes) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        batch = ipc.open_stream(raw).read_next_batch()
        t_ms = batch.column("t").cast(pa.int64()).to_numpy()
        return t_ms * MILLISECOND_NS, batch.column("value").to_numpy()

    return Peer(encode, decode)


def _gorilla() -> Peer:
    gorilla = importlib.import_module("bench.gorilla")

    def encode(table: Table) -> bytes:
        packed: bytes = gorilla.encode(table.start, table.t_ns // MILLISECOND_NS, table.value)
        return packed

    def decode(table: Table, raw: bytes) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        t_ms, value = gorilla.decode(table.start, raw)
        return t_ms * MILLISECOND_NS, value

    return Peer(encode, decode)

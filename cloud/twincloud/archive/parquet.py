"""The Parquet file of a day: written run by run, read back signal by signal, lossless to the bit.

    signal unit kind │ time  time_rest_ns │ scaled divisor  value │ text │ quality │ commit_no origin place
    ─────────────────┼────────────────────┼───────────────────────┼──────┼─────────┼────────────────────────
    dictionary       │ ms, delta   rest   │ delta   constant  f64 │      │ codes   │ delta

Any tool reads it: the value of a number is `coalesce(scaled / divisor, value)`, the time is `time` plus
`time_rest_ns`. Row groups hold one signal each, so that one signal costs its own bytes alone. See docs/archive.md.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from twincloud.archive.decimals import on_grid
from twincloud.archive.objects import digest_of
from twincloud.archive.origins import OriginRow, pack_origins, places_of, seqs_of, unpack_origins
from twincloud.archive.runs import ArchivedRun, Group, RunLike, Written
from twincloud.archive.sparse import SparseFile
from twinmodel.clock import MILLISECOND_NS
from twinmodel.errors import StorageError
from twinmodel.signal import DTYPES, Kind

FORMAT = 1
ROWS_MAX = 1 << 20
"""Rows of a row group: a faster signal has several."""

_META = b"hybridtwin"
_TAIL = 8
_FOOTER_BYTES = 64 << 10
"""What readers of Parquet take at first from the end of a file."""
_MAGIC = b"PAR1"
_FIELDS: tuple[tuple[str, pa.DataType, bool], ...] = (
    ("signal", pa.string(), False),
    ("unit", pa.string(), False),
    ("kind", pa.string(), False),
    ("time", pa.timestamp("ms", tz="UTC"), False),
    ("time_rest_ns", pa.int32(), False),
    ("scaled", pa.int64(), True),
    ("divisor", pa.float64(), False),
    ("value", pa.float64(), True),
    ("text", pa.string(), True),
    ("quality", pa.uint16(), False),
    ("commit_no", pa.int64(), False),
    ("origin", pa.int32(), False),
    ("place", pa.int64(), False),
)
_SCHEMA = pa.schema([pa.field(name, kind, nullable=nullable) for name, kind, nullable in _FIELDS])
_ENCODINGS = {
    "time": "DELTA_BINARY_PACKED",
    "scaled": "DELTA_BINARY_PACKED",
    "commit_no": "DELTA_BINARY_PACKED",
    "origin": "DELTA_BINARY_PACKED",
    "place": "DELTA_BINARY_PACKED",
    "value": "BYTE_STREAM_SPLIT",
}
_ASKED = [name for name, _, _ in _FIELDS[3:]]


class DayFile:
    """A Parquet file in the making; one run in memory at a time.

    Use it as a context: leaving it by an error closes the file, which is then of no use.
    """

    def __init__(self, path: Path | io.RawIOBase, facts: Mapping[str, object]) -> None:
        """Opens `path` for writing.

        Args:
            path: is replaced; or anything that takes bytes.
            facts: what the file says about itself (tenant, site, gateway, day ...), plain values.
        """
        self._path = path
        self._facts = dict(facts)
        self._origins: dict[OriginRow, int] = {}
        self._heads: list[tuple[str, Kind, str, int, int, int, int]] = []
        self._writer = pq.ParquetWriter(
            path,
            _SCHEMA,
            version="2.6",
            compression="zstd",
            compression_level=9,
            use_dictionary=[name for name, _, _ in _FIELDS if name not in _ENCODINGS],
            column_encoding=_ENCODINGS,
            write_statistics=["signal", "time"],
            write_page_checksum=True,
            store_schema=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._writer.close()

    def write(self, run: RunLike) -> None:
        """Adds a run, as one row group or several; an empty one adds none."""
        table = self._origins
        places = [table.setdefault(tuple(origin), len(table)) for origin in run.origins]  # type: ignore[arg-type] # of six
        origin = np.array(places, np.int32)[run.origin]
        first_seq = np.fromiter((row[3] for row in table), np.int64, len(table))
        for start in range(0, len(run.t_ns), ROWS_MAX):
            part = slice(start, start + ROWS_MAX)
            t_ns, commit_no = run.t_ns[part], run.commit_no[part]
            place = places_of(run.seq[part], origin[part], first_seq)
            self._writer.write_table(_table(run, part, origin[part], place), row_group_size=ROWS_MAX)
            span = (int(t_ns.min()), int(t_ns.max()))
            self._heads.append((run.signal, run.kind, run.unit, len(t_ns), *span, int(commit_no.max())))

    def close(self) -> None:
        """Ends the file."""
        said = {"format": FORMAT, **self._facts, "origins": pack_origins(list(self._origins))}
        self._writer.add_key_value_metadata({_META: json.dumps(said, separators=(",", ":")).encode()})
        self._writer.close()

    def finish(self) -> Written:
        """Ends the file, which has a path, and tells what is in it."""
        assert isinstance(self._path, Path)
        self.close()
        footer = pq.read_metadata(self._path)
        groups = tuple(_group(footer, number, head) for number, head in enumerate(self._heads))
        size, sha256 = digest_of(self._path)
        return Written(size, sha256, footer.num_rows, groups, self._facts)


class _Sink(io.RawIOBase):
    """Gives away what was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._parts.append(bytes(content))
        return len(self._parts[-1])

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


def stream(runs: Iterable[RunLike], facts: Mapping[str, object]) -> Iterator[bytes]:
    """The bytes of a file of the same layout, run by run; at most one run is in memory."""
    sink = _Sink()
    with DayFile(sink, facts) as file:
        for run in runs:
            file.write(run)
            yield sink.take()
        file.close()
    yield sink.take()


class Footer:
    """What the end of a file says: enough to read any row group from its own bytes."""

    def __init__(self, content: pq.FileMetaData, size: int, name: str) -> None:
        self.content = content
        self.size = size
        self.name = name
        said = (content.metadata or {}).get(_META)
        if said is None:
            raise StorageError("ARCHIVE_DAMAGED", f"{name} is Parquet, but no archive of ours")
        self.facts: dict[str, Any] = json.loads(said)
        if self.facts.get("format") != FORMAT:
            raise StorageError(
                "ARCHIVE_DAMAGED", f"{name} is of format {self.facts.get('format')}", hint="upgrade the coordinator"
            )
        self.origins = unpack_origins(self.facts.pop("origins"))
        self.first_seq = np.fromiter((row[3] for row in self.origins), np.int64, len(self.origins))

    @property
    def rows(self) -> int:
        """Samples in the file."""
        return int(self.content.num_rows)


Fetch = Callable[[int, int], bytes]
"""(offset, length) -> those bytes of the file."""


def read_footer(fetch: Fetch, size: int, name: str) -> Footer:
    """The footer of a file of `size` bytes; one range read, two when it is long.

    Raises:
        StorageError: ARCHIVE_DAMAGED when the file is none of ours, cut or altered.
    """
    held = min(size, _FOOTER_BYTES)
    tail = fetch(size - held, held) if size > _TAIL else b""
    length = int.from_bytes(tail[-_TAIL:-4], "little") + _TAIL
    if tail[-4:] != _MAGIC or length >= size:
        raise StorageError("ARCHIVE_DAMAGED", f"{name} does not end like Parquet")
    if length > held:
        tail = fetch(size - length, length - held) + tail
    try:
        return Footer(pq.read_metadata(SparseFile(size, {size - len(tail): tail})), size, name)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StorageError("ARCHIVE_DAMAGED", f"{name}: its footer cannot be read: {error}") from error


def read_groups(fetch: Fetch, footer: Footer, groups: Iterable[Group]) -> list[ArchivedRun]:
    """Runs of row groups, one range read each.

    Raises:
        StorageError: ARCHIVE_DAMAGED when the bytes are not what was written.
    """
    found = []
    for group in groups:
        held = SparseFile(footer.size, {group.offset: fetch(group.offset, group.length)})
        try:
            with pq.ParquetFile(held, metadata=footer.content, page_checksum_verification=True) as file:
                table = file.read_row_group(group.number, columns=_ASKED, use_threads=False)
        except (pa.ArrowException, OSError, ValueError) as error:
            where = f"{footer.name}: row group {group.number}, signal {group.signal}"
            raise StorageError("ARCHIVE_DAMAGED", f"{where}: {error}") from error
        found.append(_run(table, group, footer))
    return found


def groups_of(footer: Footer, fetch: Fetch) -> tuple[Group, ...]:
    """The row groups of a file, from the file alone; for whoever has lost the index."""
    groups = []
    for number in range(footer.content.num_row_groups):
        offset, length = _bytes_of(footer.content, number)
        held = SparseFile(footer.size, {offset: fetch(offset, length)})
        with pq.ParquetFile(held, metadata=footer.content) as file:
            table = file.read_row_group(number, use_threads=False)
        head = (table["signal"][0].as_py(), Kind[table["kind"][0].as_py().upper()], table["unit"][0].as_py())
        t_ns = _times(table)
        commits = table["commit_no"].to_numpy()
        groups.append(
            Group(
                number, *head, offset, length, len(table), int(t_ns.min()), int(t_ns.max()), int(commits.max())
            )
        )  # fmt: skip
    return tuple(groups)


def _table(run: RunLike, part: slice, origin: NDArray[np.int32], place: NDArray[np.int64]) -> pa.Table:
    t_ns, values = run.t_ns[part], run.value[part]
    count = len(t_ns)
    milliseconds = t_ns // MILLISECOND_NS
    scaled: pa.Array = pa.nulls(count, pa.int64())
    value: pa.Array = pa.nulls(count, pa.float64())
    text: pa.Array = pa.nulls(count, pa.string())
    divisor = 1
    if run.kind is Kind.FLOAT:
        floats = np.ascontiguousarray(values, np.float64)
        integers, divisor, exact = on_grid(floats)
        scaled, value = pa.array(integers, mask=~exact), pa.array(floats, mask=exact, from_pandas=False)
    elif run.kind is Kind.STRING:
        text = pa.array(values.tolist(), pa.string())
    else:
        scaled = pa.array(values.astype(np.int64))
    columns = [
        _constant(run.signal, count),
        _constant(run.unit, count),
        _constant(run.kind.name.lower(), count),
        pa.array(milliseconds).cast(pa.timestamp("ms", tz="UTC")),
        pa.array((t_ns - milliseconds * MILLISECOND_NS).astype(np.int32)),
        scaled,
        pa.array(np.full(count, float(divisor))),
        value,
        text,
        pa.array(run.quality[part].astype(np.uint16, copy=False)),
        pa.array(run.commit_no[part].astype(np.int64, copy=False)),
        pa.array(origin),
        pa.array(place),
    ]
    return pa.Table.from_arrays(columns, schema=_SCHEMA)


def _constant(text: str, count: int) -> pa.Array:
    return pa.array([text], pa.string()).take(pa.array(np.zeros(count, np.int32)))


def _run(table: pa.Table, group: Group, footer: Footer) -> ArchivedRun:
    if len(table) != group.rows:
        raise StorageError("ARCHIVE_DAMAGED", f"row group {group.number} has {len(table)} rows, {group.rows} expected")
    origin = table["origin"].to_numpy().astype(np.int32)
    return ArchivedRun(
        group.signal,
        group.kind,
        group.unit,
        _times(table),
        _values(table, group.kind),
        table["quality"].to_numpy().astype(np.uint16),
        table["commit_no"].to_numpy().astype(np.int64),
        origin,
        footer.origins,
        seqs_of(table["place"].to_numpy().astype(np.int64), origin, footer.first_seq),
    )


def _times(table: pa.Table) -> NDArray[np.int64]:
    milliseconds: NDArray[np.int64] = table["time"].cast(pa.int64()).to_numpy().astype(np.int64)
    rest_ns: NDArray[np.int64] = table["time_rest_ns"].to_numpy().astype(np.int64)
    return milliseconds * MILLISECOND_NS + rest_ns


def _values(table: pa.Table, kind: Kind) -> NDArray[np.generic]:
    if kind is Kind.STRING:
        text = np.empty(len(table), object)
        text[:] = table["text"].to_pylist()
        return text
    scaled = table["scaled"].combine_chunks()
    integers: NDArray[np.int64] = scaled.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    if kind is not Kind.FLOAT:
        return integers.astype(DTYPES[kind])
    value: NDArray[np.float64] = integers / table["divisor"].to_numpy()
    if scaled.null_count:
        apart = scaled.is_null().to_numpy(zero_copy_only=False)
        # Bits, not numbers, are copied: a NaN keeps its payload.
        raw = table["value"].combine_chunks()
        value.view(np.int64)[apart] = raw.filter(pa.array(apart)).view(pa.int64()).to_numpy()
    return value


def _group(footer: pq.FileMetaData, number: int, head: tuple[str, Kind, str, int, int, int, int]) -> Group:
    signal, kind, unit, rows, from_ns, to_ns, commit_max = head
    return Group(number, signal, kind, unit, *_bytes_of(footer, number), rows, from_ns, to_ns, commit_max)


def _bytes_of(footer: pq.FileMetaData, number: int) -> tuple[int, int]:
    starts, ends = [], []
    group = footer.row_group(number)
    for place in range(group.num_columns):
        column = group.column(place)
        start = column.data_page_offset
        if column.has_dictionary_page and column.dictionary_page_offset is not None:
            start = min(start, column.dictionary_page_offset)
        starts.append(start)
        ends.append(start + column.total_compressed_size)
    return min(starts), max(ends) - min(starts)


def open_bytes(content: bytes) -> Fetch:
    """Range reads of bytes in memory."""
    view = io.BytesIO(content)

    def fetch(offset: int, length: int) -> bytes:
        view.seek(offset)
        return view.read(length)

    return fetch

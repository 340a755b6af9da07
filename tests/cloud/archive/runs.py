"""Runs to archive, by hand and by hypothesis, and what makes two of them the same."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from twincloud.archive.runs import ArchivedRun
from twinmodel.signal import DTYPES, Kind

BOOT = b"b" * 16
DAY_NS = 1_700_006_400 * 1_000_000_000
"""Midnight, UTC."""


def origin(number: int, boot: bytes = BOOT, schema: int = 0):
    return (1, boot, 2, number * 1_000, DAY_NS + number * 10**10, DAY_NS + number * 10**10 + 7, schema)


def run(signal="plc.flow", values=(1.25, 2.5), *, kind=Kind.FLOAT, unit="m3/h", start_ns=DAY_NS, step_ns=10**9, **more):
    count = len(values)
    value = np.empty(count, DTYPES[kind])
    value[:] = list(values)
    columns = {
        "t_ns": start_ns + step_ns * np.arange(count, dtype=np.int64),
        "quality": np.zeros(count, np.uint16),
        "commit_no": 100 + np.arange(count, dtype=np.int64) // 10,
        "origin": (np.arange(count) // 10).astype(np.int32),
        "origins": tuple(origin(n) for n in range(count // 10 + 1)),
        "seq": (np.arange(count) // 10) * 1_000 + 5 + np.arange(count, dtype=np.int64) % 10,
    }
    return ArchivedRun(signal, kind, unit, value=value, **(columns | more))


def facts(one) -> tuple:
    """Everything of a run, floats as their bits, origins as themselves."""
    value = one.value.view(np.int64) if one.kind is Kind.FLOAT else one.value
    return (
        one.signal, one.kind, one.unit, one.t_ns.tolist(), value.tolist(), one.value.dtype, one.quality.tolist(),
        one.commit_no.tolist(), [tuple(one.origins[place]) for place in one.origin.tolist()], one.seq.tolist(),
    )  # fmt: skip


_BITS = hnp.from_dtype(np.dtype(np.int64))
_DECIMALS = st.tuples(st.integers(-(10**9), 10**9), st.integers(0, 6)).map(lambda pair: pair[0] / 10 ** pair[1])
_FLOATS = st.one_of(_BITS.map(lambda bits: np.int64(bits).view(np.float64)), _DECIMALS, st.sampled_from([0.0, -0.0]))
_VALUES = {
    Kind.FLOAT: _FLOATS,
    Kind.INT: st.integers(-(2**63), 2**63 - 1),
    Kind.BOOL: st.booleans(),
    Kind.STRING: st.text(max_size=5),
}
_INT64 = st.integers(-(2**62), 2**62)


@st.composite
def runs(draw):
    """Any run the codec may be given, however odd."""
    kind = draw(st.sampled_from(Kind))
    count = draw(st.integers(1, 20))

    def column(values, dtype):
        return np.array(draw(st.lists(values, min_size=count, max_size=count)), dtype)

    values = draw(st.lists(_VALUES[kind], min_size=count, max_size=count))
    origins = draw(
        st.lists(
            st.tuples(
                st.integers(0, 2**40), st.binary(min_size=16, max_size=16), st.integers(0, 3), st.integers(0, 2**60),
                _INT64, _INT64, st.integers(0, 2**31),
            ),
            min_size=1, max_size=4, unique=True,
        )
    )  # fmt: skip
    return run(
        draw(st.text("abc./#-_é", min_size=1, max_size=8)),
        values,
        kind=kind,
        unit=draw(st.sampled_from(["", "m3/h", "°C"])),
        t_ns=column(_INT64, np.int64),
        quality=column(st.integers(0, 2**16 - 1), np.uint16),
        commit_no=column(st.integers(0, 2**62), np.int64),
        origin=column(st.integers(0, len(origins) - 1), np.int32),
        origins=tuple(origins),
        seq=column(st.integers(0, 2**60), np.int64),
    )

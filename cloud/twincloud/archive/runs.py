"""What an archived file holds: runs of samples, one signal each, and where each lies in the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from twincloud.archive.origins import OriginRow
from twinmodel.signal import Kind


class RunLike(Protocol):
    """A run to archive: the columns of `ArchivedRun`."""

    @property
    def signal(self) -> str:
        """Name of the signal."""
        ...

    @property
    def kind(self) -> Kind:
        """Type of its values."""
        ...

    @property
    def unit(self) -> str:
        """Unit symbol."""
        ...

    @property
    def t_ns(self) -> NDArray[np.int64]:
        """Event times."""
        ...

    @property
    def value(self) -> NDArray[np.generic]:
        """Values, dtype of the kind."""
        ...

    @property
    def quality(self) -> NDArray[np.uint16]:
        """Quality codes."""
        ...

    @property
    def commit_no(self) -> NDArray[np.int64]:
        """Number of the commit each sample came with."""
        ...

    @property
    def origin(self) -> NDArray[np.int32]:
        """Place in `origins`."""
        ...

    @property
    def origins(self) -> Sequence[OriginRow]:
        """Blocks the samples came in."""
        ...

    @property
    def seq(self) -> NDArray[np.int64]:
        """Sequence number of each sample."""
        ...


@dataclass(frozen=True, slots=True)
class ArchivedRun:
    """Samples of one signal, one kind and one unit, in canonical order; all columns of shape (n,).

    Attributes:
        signal, kind, unit: what is measured.
        t_ns: event times, int64.
        value: values, dtype of the kind.
        quality: quality codes, uint16.
        commit_no: number of the commit each sample came with, int64.
        origin: place of each sample's block in `origins`, int32.
        origins: the blocks of the whole file.
        seq: sequence number of each sample in its boot and stream, int64.
    """

    signal: str
    kind: Kind
    unit: str
    t_ns: NDArray[np.int64]
    value: NDArray[np.generic]
    quality: NDArray[np.uint16]
    commit_no: NDArray[np.int64]
    origin: NDArray[np.int32]
    origins: Sequence[OriginRow]
    seq: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.t_ns)


@dataclass(frozen=True, slots=True)
class Group:
    """A row group of a file: what it holds, and the bytes that hold it.

    Attributes:
        number: its place among the row groups.
        signal, kind, unit: of all its samples.
        offset, length: its bytes in the file.
        rows: samples.
        from_ns, to_ns: first and last event time, both included.
        commit_max: highest commit number.
    """

    number: int
    signal: str
    kind: Kind
    unit: str
    offset: int
    length: int
    rows: int
    from_ns: int
    to_ns: int
    commit_max: int


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file.

    Attributes:
        size: bytes.
        sha256: digest of all bytes, lower-case hexadecimal.
        rows: samples.
        groups: in file order.
        facts: what was said about the file as a whole.
    """

    size: int
    sha256: str
    rows: int
    groups: tuple[Group, ...]
    facts: Mapping[str, object]

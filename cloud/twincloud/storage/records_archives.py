"""Archived days as the store tells of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from twincloud.archive.runs import Group
from twincloud.storage.packing import pack, unpack
from twinmodel.clock import SECOND_NS
from twinmodel.signal import Kind

DAY_NS = 86_400 * SECOND_NS


class FileState(IntEnum):
    """What is known of an archived file.

    draft ─finish─▶ kept ─late data─▶ superseded ─an hour─▶ gone
      └─▶ abandoned ─▶ gone          foreign: the key was taken by somebody else; never touched
    """

    DRAFT = 0
    KEPT = 1
    SUPERSEDED = 2
    ABANDONED = 3
    FOREIGN = 4


@dataclass(frozen=True, slots=True)
class Day:
    """A UTC day of a gateway."""

    tenant: str
    gateway_id: int
    day_ns: int


@dataclass(frozen=True, slots=True)
class Draft:
    """A file that is being made.

    Attributes:
        day: what it holds.
        site, gateway: names of the gateway.
        generation: 1, or more when late data came.
        key: of the object.
        worker: whose it is.
        upload: what an earlier attempt remembered.
        sha256: digest of what an earlier attempt sent, "" when none did.
        parts: the hours it was begun with.
    """

    day: Day
    site: str
    gateway: str
    generation: int
    key: str
    worker: str
    upload: str
    sha256: str
    parts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Archive:
    """A file of the archive; times in ns UTC, `to_ns` included."""

    day: Day
    generation: int
    state: FileState
    key: str
    upload: str
    sha256: str
    size: int
    samples: int
    from_ns: int
    to_ns: int
    commit_max: int
    changed_ns: int
    groups: tuple[Group, ...]


def pack_groups(groups: tuple[Group, ...]) -> bytes:
    """Row groups, in file order."""
    return pack(
        [[g.signal, int(g.kind), g.unit, g.offset, g.length, g.rows, g.from_ns, g.to_ns, g.commit_max] for g in groups]
    )


def archive_of(row: Mapping[str, Any]) -> Archive:
    """The archive of a row."""
    groups = tuple(
        Group(number, signal, Kind(kind), *rest)
        for number, (signal, kind, *rest) in enumerate(unpack(row["row_groups"]) if row["row_groups"] else ())
    )
    return Archive(
        Day(row["tenant"], row["gateway_id"], row["day_ns"]), row["generation"], FileState(row["state"]),
        row["object_key"], row["upload"], row["sha256"], row["size"], row["samples"], row["from_ns"], row["to_ns"],
        row["commit_max"], row["changed_ns"], groups,
    )  # fmt: skip

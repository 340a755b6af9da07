"""Catalogues that stored blocks refer to, by number inside the file and by digest outside."""

from __future__ import annotations

import zlib

import apsw
import msgpack

from twinedge.spool.schema import number, run
from twinmodel.errors import TwinError
from twinmodel.signal import Catalogue, Kind, Signal, Stream, TwinBinding

_KEPT_UNUSED = 4


def keep_catalogue(db: apsw.Connection, catalogue: Catalogue) -> int:
    """Stores a catalogue once; returns its number."""
    found = number(db, "SELECT number FROM catalogues WHERE digest = ?", (catalogue.digest,))
    if found is None:
        run(db, "INSERT INTO catalogues(digest, packed) VALUES (?, ?)", (catalogue.digest, _packed(catalogue)))
        found = db.last_insert_rowid()
    return int(found)


def catalogue_bytes(db: apsw.Connection, catalogue: Catalogue) -> int:
    """Bytes that storing a catalogue would take, 0 when it is here."""
    known = number(db, "SELECT 1 FROM catalogues WHERE digest = ?", (catalogue.digest,))
    return 0 if known else len(_packed(catalogue))


def catalogue_of(db: apsw.Connection, digest: bytes) -> Catalogue | None:
    """The catalogue of a digest, None when it is not here."""
    packed = number(db, "SELECT packed FROM catalogues WHERE digest = ?", (digest,))
    return None if packed is None else _unpacked(packed)


def digests_of(db: apsw.Connection) -> dict[int, bytes]:
    """Digests by number, the oldest first."""
    return dict(run(db, "SELECT number, digest FROM catalogues ORDER BY number"))


def damaged_catalogues(db: apsw.Connection) -> list[int]:
    """Numbers of catalogues whose content has not the digest it should have."""
    rows = run(db, "SELECT number, digest, packed FROM catalogues")
    return [n for n, digest, packed in rows if not is_sound(digest, packed)]


def is_sound(digest: object, packed: object) -> bool:
    """Whether a stored row is the catalogue it claims to be."""
    if type(packed) is not bytes:
        return False
    try:
        return _unpacked(packed).digest == digest
    except (ValueError, TypeError, KeyError, IndexError, zlib.error, msgpack.UnpackException, TwinError):
        return False


def forget_unused(db: apsw.Connection) -> None:
    """Deletes catalogues no stored block needs, once there are several; the newest stays."""
    digests = digests_of(db)
    if len(digests) > _KEPT_UNUSED:
        sql = "DELETE FROM catalogues WHERE number <> ? AND number NOT IN (SELECT DISTINCT catalogue FROM items)"
        run(db, sql, (max(digests),))


def _packed(catalogue: Catalogue) -> bytes:
    signals = [[s.name, int(s.kind), s.unit, int(s.stream), s.exponent, s.step, s.period_ns] for s in catalogue.signals]
    twins = [
        [t.twin, t.definition, t.model, dict(t.properties), list(t.outputs), dict(t.units)] for t in catalogue.twins
    ]
    return zlib.compress(msgpack.packb([catalogue.time_step_ns, signals, twins]), 1)


def _unpacked(packed: bytes) -> Catalogue:
    time_step_ns, signals, twins = msgpack.unpackb(zlib.decompress(packed))
    return Catalogue(
        tuple(
            Signal(i, name, Kind(kind), unit, Stream(stream), *numbers)
            for i, (name, kind, unit, stream, *numbers) in enumerate(signals)
        ),
        tuple(
            TwinBinding(twin, definition, model, properties, tuple(outputs), units)
            for twin, definition, model, properties, outputs, units in twins
        ),
        time_step_ns,
    )

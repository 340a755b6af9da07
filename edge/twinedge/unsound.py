"""What a defect trips over: the samples that can be stored without it, and the declared hole in place of the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import structlog

from twinedge.lanes import Flush
from twinmodel.errors import TwinError
from twinmodel.signal import Batch, Catalogue, concat
from twinsync import item
from twinsync.block import columns_of

log = structlog.get_logger(__name__)


def sound(flush: Flush, catalogue: Catalogue, error: Exception) -> Flush:
    """A flush without the signals that trip a defect, all of them when none does alone; they are declared instead."""
    parts, broken = [], []
    for stream, batches in flush.parts:
        sound = []
        for batch in batches:
            good, bad = _parted(batch, catalogue)
            sound += [good] if len(good) else []
            broken += [bad] if len(bad) else []
        if sound:
            parts.append((stream, sound))
    if not broken:
        broken, parts = [batch for _, batches in flush.parts for batch in batches], []
    # A flush that was given back has declared them already.
    records = dict.fromkeys((*flush.records, *declared(broken, error)))
    return replace(flush, parts=parts, records=tuple(records))


def _parted(batch: Batch, catalogue: Catalogue) -> tuple[Batch, Batch]:
    """Samples of signals that can be packed, and those of signals that cannot."""
    fits = np.ones(len(batch), np.bool_)
    if not _fits(batch, catalogue):
        for signal in np.unique(batch.signal):
            mine = batch.signal == signal
            fits[mine] = _fits(batch.take(mine), catalogue)
    return batch.take(fits), batch.take(~fits)


def _fits(batch: Batch, catalogue: Catalogue) -> bool:
    try:
        columns_of([batch], catalogue)
    except TwinError as error:
        # What is only too large is cut in pieces when it is stored.
        return error.reason == "LIMIT_EXCEEDED"
    except Exception:  # noqa: BLE001 - the question is whether any is raised; the first one was logged
        return False
    return True


def declared(batches: Iterable[Batch], error: Exception) -> list[item.NotAcquired]:
    """The hole that samples leave which nothing can be done with: a defect in a few must not end the record of all."""
    times = concat(batch for batch in batches if len(batch))
    if not times:
        return []
    reason = error.reason if isinstance(error, TwinError) else "INTERNAL"
    from_ns, to_ns = min(int(b.t_ns.min()) for b in times), max(int(b.t_ns.max()) for b in times)
    log.error(
        "samples trip a defect and are declared lost", samples=sum(map(len, times)), reason=reason, exc_info=error
    )
    return [item.NotAcquired("*", reason, from_ns, to_ns)]

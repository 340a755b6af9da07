"""From items as they came to arrivals the store can commit; whatever cannot be read becomes a dead letter."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from twincloud.storage.contract import Arrival, GatewayKey, Ingest
from twinmodel.errors import InputError, StorageError, TwinError
from twinmodel.signal import Batch
from twinsync import block
from twinsync.item import Block, Item
from twinsync.kept import samples_of

_log = structlog.get_logger(__name__)


def arrivals_of(store: Ingest, gateway: GatewayKey, items: Iterable[Item]) -> list[Arrival]:
    """Decodes the blocks among the items; blocking, so call it in a thread.

    Raises:
        StorageError: a catalogue could not be read; nothing is said about the blocks then.
    """
    return [_arrival_of(store, gateway, item) for item in items]


def _arrival_of(store: Ingest, gateway: GatewayKey, item: Item) -> Arrival:
    if not isinstance(item.content, Block):
        return Arrival(item)
    try:
        return Arrival(item, _batches_of(store, gateway, item, item.content))
    except (StorageError, MemoryError):
        raise
    except TwinError as error:
        return Arrival(item, poison=error.reason)
    # A block that trips the decoder in a way nobody foresaw must not hold up its stream for ever.
    except Exception:  # noqa: BLE001 - see above; the bytes are kept as a dead letter
        _log.exception("decoder failed", gateway=gateway.gateway, boot=item.boot.hex(), first_seq=item.first_seq)
        return Arrival(item, poison="BLOCK_CORRUPT")


def _batches_of(store: Ingest, gateway: GatewayKey, item: Item, content: Block) -> tuple[Batch, ...]:
    block.verify(content.payload, content.crc32c)
    catalogue = store.catalogue(gateway, content.schema)
    samples = samples_of(item)
    batches = tuple(block.decode(content.payload, catalogue, count_max=samples))
    count = sum(map(len, batches))
    if count != samples:
        raise InputError("BLOCK_CORRUPT", f"a block of {count} samples over {samples} sequence numbers")
    return batches

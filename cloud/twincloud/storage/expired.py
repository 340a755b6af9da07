"""What retention is the cause of in the loss ledger: samples that came later than their signal is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, insert

from twincloud.storage.hours_codec import HOUR_NS
from twincloud.storage.part import NUMBERS, take_numbers
from twincloud.storage.schema import losses
from twincloud.storage.tier_blocks import Head

KIND: Final = "EXPIRED"
REASON: Final = "RETENTION"


def declare_expired(connection: Connection, tenant: str, gateway_id: int, head: Head, gone: Mapping[int, int]) -> None:
    """Enters into the loss ledger what came later than retention keeps it.

    Args:
        connection: of the transaction that lets go of it.
        tenant: of the gateway.
        gateway_id: whose samples.
        head: the first block they came in, a row of `tier_blocks.HEADS`; others may have brought some of them too.
        gone: samples by hour.
    """
    number = take_numbers(connection, NUMBERS, 2)
    connection.execute(insert(losses), {
        "id": number + 1, "commit_no": number, "tenant": tenant, "gateway_id": gateway_id, "boot_id": head.boot_id,
        "kind": KIND, "reason": REASON, "stream": head.stream, "first_seq": head.first_seq,
        "count": sum(gone.values()), "from_ns": min(gone), "to_ns": max(gone) + HOUR_NS, "device": "",
        "received_ns": head.received_ns,
    })  # fmt: skip

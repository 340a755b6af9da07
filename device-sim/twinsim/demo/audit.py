"""The demo's verdict: what the devices gave out against what the coordinator stored, signal by signal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from twinmodel.clock import SECOND_NS
from twinmodel.quality import QualityReason, bad
from twinsim.demo.layout import SORTS
from twinsim.demo.operator import Operator
from twinsim.served import Declared, Stored, Verdict, check, read_served

SILENCE = (bad(QualityReason.NOT_CONNECTED), bad(QualityReason.STALE))
WINDOW_NS = 10 * SECOND_NS
"""The longest `sync` window in use: what a kill may cost."""


def audit(operator: Operator, devices_state: Path, kills_ns: Sequence[int] = ()) -> Verdict:
    """Compares the served log with every sample of every gateway."""
    gateways = [(g["site"], g["gateway"]) for g in operator.pages("gateways")]
    declared = [d for site, gateway in gateways for d in _declared(operator, site, gateway)]
    stored = (s for site, gateway in gateways for s in _stored(operator, site, gateway))
    return check(read_served(devices_state), stored, declared, kills_ns=kills_ns, window_ns=WINDOW_NS)


def _stored(operator: Operator, site: str, gateway: str) -> Iterator[Stored]:
    for sample in operator.samples(site, gateway):
        device, _, point = sample["signal"].partition(".")
        if point and "#" not in point and not _stamped_by_gateway(device, sample["quality"]):
            yield device, point, None, sample["t_ns"], sample["value"]


def _stamped_by_gateway(device: str, quality: int) -> bool:
    """Whether no device gave this sample out: the gateway says by it that nothing comes.

    Only OPC UA devices can say such a thing themselves.
    """
    return quality in SILENCE and SORTS[device.partition("-")[0]].protocol != "opcua"


def _declared(operator: Operator, site: str, gateway: str) -> Iterator[Declared]:
    for loss in operator.call("GET", f"sites/{site}/gateways/{gateway}/losses")["items"]:
        if loss["to_time"] is not None:
            device = "" if loss["device"] == "*" else loss["device"]
            yield Declared(nanoseconds(loss["from_time"]), nanoseconds(loss["to_time"]), device)


def nanoseconds(text: str) -> int:
    """Integer nanoseconds of an RFC 3339 time in UTC with nine digits, without a float in between."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole + "+00:00").timestamp())
    return seconds * SECOND_NS + int(fraction.ljust(9, "0")[:9] or 0)

"""The verdict over a plant: what the devices gave out against what the coordinator stored, signal by signal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from twinmodel.clock import SECOND_NS
from twinmodel.quality import QualityReason, bad
from twinsim.deployment.operator import TRIES, Operator
from twinsim.served import SAMPLE_NO, Declared, Stored, Verdict, check, read_served

SILENCE = (bad(QualityReason.NOT_CONNECTED), bad(QualityReason.STALE))
VALUELESS = (bad(QualityReason.DEVICE_FAULT), bad(QualityReason.DECODE), bad(QualityReason.ABSENT))
NO_NUMBER = -1
WINDOW_NS = 10 * SECOND_NS
"""The longest `sync` window in use: what a kill may cost."""


def audit(
    operator: Operator, devices_state: Path, protocols: Mapping[str, str], kills_ns: Sequence[int] = ()
) -> Verdict:
    """Compares the served log with every sample of every gateway.

    Only devices that tell times (OPC UA) or number their samples can be judged; the others are left out.

    Args:
        operator: reads what is stored.
        devices_state: where the served log lies.
        protocols: device -> what it speaks.
        kills_ns: wall times at which an agent was killed.
    """
    judged = judged_devices(devices_state)
    gateways = [(g["site"], g["gateway"]) for g in operator.pages("gateways", TRIES)]
    declared = [d for site, gateway in gateways for d in _declared(operator, site, gateway)]
    stored = (s for site, gateway in gateways for s in _stored(operator, site, gateway, protocols) if s[0] in judged)
    served = (record for record in read_served(devices_state) if record.device in judged)
    return check(served, stored, declared, kills_ns=kills_ns, window_ns=WINDOW_NS)


def judged_devices(devices_state: Path) -> frozenset[str]:
    """Devices of the served log whose samples can be told apart: by their time, or by their number."""
    return frozenset(r.device for r in read_served(devices_state) if r.protocol == "opcua" or SAMPLE_NO in r.points)


def _stored(operator: Operator, site: str, gateway: str, protocols: Mapping[str, str]) -> Iterator[Stored]:
    for sample in operator.samples(site, gateway):
        device, _, point = sample["signal"].partition(".")
        # A silence is said by the gateway, not given out by a device; only OPC UA devices can say such a thing.
        silent = sample["quality"] in SILENCE and protocols.get(device) != "opcua"
        if point and "#" not in point and not silent:
            # What a device refuses to tell is stored with nothing, or 0: no number of a sample of its.
            number = NO_NUMBER if sample["quality"] in VALUELESS else None
            yield device, point, number, sample["t_ns"], sample["value"]


def _declared(operator: Operator, site: str, gateway: str) -> Iterator[Declared]:
    for loss in operator.pages(f"sites/{site}/gateways/{gateway}/losses", TRIES):
        if loss["to_time"] is not None:
            device = "" if loss["device"] == "*" else loss["device"]
            yield Declared(nanoseconds(loss["from_time"]), nanoseconds(loss["to_time"]), device)


def nanoseconds(text: str) -> int:
    """Integer nanoseconds of an RFC 3339 time in UTC with nine digits, without a float in between."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole + "+00:00").timestamp())
    return seconds * SECOND_NS + int(fraction.ljust(9, "0")[:9] or 0)

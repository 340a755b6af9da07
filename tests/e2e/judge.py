"""The verdict over a deployment: what devices gave out, what is stored and in which order, what was declared."""

from __future__ import annotations

import itertools
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime

from tests.e2e.plant import SITE, SYNC_TELEMETRY_S, Plant
from twinmodel.clock import SECOND_NS
from twinmodel.quality import QualityReason, bad
from twinsim.deployment.audit import nanoseconds
from twinsim.served import Declared, Stored, check, read_served

KILL_WINDOW_NS = (SYNC_TELEMETRY_S + 2) * SECOND_NS
"""What a kill may cost: one `sync` window of the slowest stream, and the time a loaded machine takes to commit."""
LATE_MAX = 40
"""Samples (four a poll) that may be declared for polls that timed out."""
AROUND_SWAP_NS = 10 * SECOND_NS
SILENCE = (bad(QualityReason.NOT_CONNECTED), bad(QualityReason.STALE))


def text_of(t_ns: int) -> str:
    whole, rest = divmod(t_ns, SECOND_NS)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def check_swap(plant: Plant, twin: str, ended: str, until_ns: int) -> None:
    """Estimates go on across the swap, each within a few sigma of the one before it; `until_ns` ends the look."""
    moment = nanoseconds(ended)
    span = {"from": text_of(moment - AROUND_SWAP_NS), "to": text_of(min(moment + AROUND_SWAP_NS, until_ns))}
    for prop in ("level1", "level2"):
        query = {"property": prop, "roles": "estimate,sigma", **span}
        series = plant.operator.call("GET", f"sites/{SITE}/twins/{twin}/history", query=query)["series"]
        estimate, sigma = (
            dict(zip(series[role]["t_ns"], series[role]["value"], strict=True)) for role in ("estimate", "sigma")
        )
        times = sorted(estimate.keys() & sigma.keys())
        assert sum(t < moment for t in times) >= 3
        assert sum(t > moment for t in times) >= 3
        for earlier, later in itertools.pairwise(times):
            assert later - earlier <= 5 * SECOND_NS, f"{twin}/{prop}: no estimate for {(later - earlier) / SECOND_NS} s"
            jump = abs(estimate[later] - estimate[earlier])
            assert jump <= 4 * sigma[earlier] + 0.01, f"{twin}/{prop} jumped by {jump} at {later}"


def check_order(samples, lanes_max: int, given: AbstractSet[tuple[str, int]]) -> None:
    """Per signal, history has been stored in the order things happened, in each lane: over cuts and resent blocks.

    What happens now may pass a backlog, in a lane of its own that the agent opens by numbering anew; so a signal's
    samples are at most as many ascending rows as its gateway has begun to number. What the gateway says of an OPC UA
    server by itself (`given` has what the server dated) is dated by another clock, with which it need not agree.
    """
    lanes: dict[str, list[int]] = {}
    for sample in samples:
        signal, t_ns = sample["signal"], sample["t_ns"]
        if sample["quality"] in SILENCE or (signal.startswith("HX") and (signal, t_ns) not in given):
            continue
        newest = lanes.setdefault(signal, [])
        assert t_ns not in newest, f"{signal} at {t_ns} was stored twice"
        behind = [t for t in newest if t < t_ns]
        if behind:
            newest.remove(max(behind))
        newest.append(t_ns)
        assert len(newest) <= lanes_max, f"{signal} at {t_ns} was stored after {min(newest)}"


def from_gateway(sample) -> bool:
    """Whether no device gave it out: the gateway says by it that nothing comes; OPC UA servers may say so too."""
    return sample["quality"] in SILENCE and not sample["signal"].startswith("HX")


def stored_of(sample) -> Stored:
    device, _, point = sample["signal"].partition(".")
    return device, point, None, sample["t_ns"], sample["value"]


def verdict(plant: Plant, record_property) -> None:
    """Every sample the devices gave out, against every sample the coordinator holds."""
    served = list(read_served(plant.devices_state))
    samples = {name: plant.samples(name) for name in plant.gateways}
    stored = {name: [stored_of(s) for s in mine if not from_gateway(s)] for name, mine in samples.items()}
    (kill_ns,) = plant.kills["mixed"]
    every = [sample for mine in stored.values() for sample in mine]
    # A poll that a loaded machine answers after its time-out is discarded and declared, as contracts with plants say.
    late = [hole for name in plant.gateways for hole in unanswered(plant, name)]
    found = check(served, every, late, kills_ns=[kill_ns], window_ns=KILL_WINDOW_NS)
    record_property("verdict", str(found))
    assert (found.lost, found.duplicates) == (0, 0), found
    assert found.declared_missing <= LATE_MAX, found
    assert found.samples_acquired > 1000
    given = {(f"{one.device}.{point}", one.t_ns) for one in served if one.protocol == "opcua" for point in one.points}
    numberings = {one["gateway"]: one["boot_counter"] for one in plant.operator.pages("gateways")}
    for gateway in plant.gateways.values():
        mine = [record for record in served if record.device in gateway.devices]
        alone = check(mine, stored[gateway.name])
        # Only the killed agent may miss anything, and nothing of what a broker kept for it.
        excused = {"T-1", "HX-1"} if gateway.name == "mixed" else set()
        strict = check([r for r in mine if r.device not in excused], stored[gateway.name], late)
        assert strict.lost == 0, (gateway.name, strict)
        assert alone.lost <= found.excusable + found.declared_missing
        check_order(samples[gateway.name], numberings[gateway.name], given)
        assert plant.exit_code(gateway) == 0, f"{gateway.name}: {gateway.program.last_words()}"
        letters = [one for one in plant.operator.pages("deadLetters") if one["gateway"] == gateway.name]
        assert letters == []
    rate = 4 + 6
    assert found.excusable <= rate * KILL_WINDOW_NS / SECOND_NS
    check_ledger(plant, kill_ns)


def unanswered(plant: Plant, name: str) -> list[Declared]:
    """The holes a gateway declared for its Modbus devices; the other protocols lose nothing by being slow."""
    return [
        Declared(nanoseconds(hole["from_time"]), nanoseconds(hole["to_time"]), hole["device"])
        for hole in plant.losses(name)
        if hole["kind"] == "NOT_ACQUIRED" and hole["to_time"] is not None and hole["device"].startswith("T-")
    ]


def check_ledger(plant: Plant, kill_ns: int) -> None:
    """The killed agent's outage is declared, from its last commit to its next start; other agents have none."""
    outages = {name: [i for i in plant.losses(name) if i["kind"] == "OUTAGE"] for name in plant.gateways}
    (outage,) = outages.pop("mixed")
    begun, ended = nanoseconds(outage["from_time"]), nanoseconds(outage["to_time"])
    assert kill_ns - KILL_WINDOW_NS <= begun <= kill_ns < ended
    assert outages.pop("expired", [None]) != []  # it was stopped once, to start with its new certificate
    assert all(found == [] for found in outages.values()), outages
    gaps = {name: [i for i in plant.losses(name) if i["kind"] == "GAP"] for name in plant.gateways}
    assert all(found == [] for found in gaps.values()), gaps

"""What an agent does and costs, from the device to committed at the coordinator, all of it as real processes.

The load of the rates are a Modbus server of many hosts, an OPC UA server and publishers at mosquitto, a third of the
points each, once a second; a coordinator takes what the agent sends over mutual TLS. A collector as people write it
with pymodbus, asyncua and aiomqtt runs beside it over the same servers (`bench.edge.peer`). Processor time is that of
the agent's process alone, so that neighbours on the machine change it little; wall times are of the machine as it is.

    rates: 100, 1,000 and 10,000 points a second; a quick run leaves out the first
points_per_s_core         samples committed at 10,000 a second, per second of the agent's processor time; `_1k` at 1,000
committed_per_s_10k       what the coordinator committed then
cpu_pct_at_1k, _10k       of one core
rss_mb_at_1k, _10k        memory of the agent, three protocols
cpu_vs_collector_10k      processor time a point costs, collector / agent; `_1k` too
coordinator_cpu_pct_10k   of one core
    parts, at 10,000: microseconds of processor time a point, `_drivers_and_rest` what the others leave
part_us_gate, _replays, _lanes, _watchers, _threads, _drivers_and_rest
    a plant of 100 models at 1 Hz, 140 alarm rules, a server and a publisher on site, all at once
step_p99_ms_100_models    one call in which models step, all that are due together; `_cpu_` its processor time
step_us_per_model         processor time of a tick of a model with all around it
cpu_pct_100_models_all_on of one core, with 241 polls a second
command_roundtrip_ms      from POST to SUCCEEDED with the value read back, over REST
alarm_latency_ms          from the first sample beyond a limit to the alarm over REST, 99th percentile
reload_ms                 one tag changes in a site of three protocols and 1,000 points, as the agent tells;
                          `_100_models_ms` in that plant, whose site.yaml has 1,300 lines
samples_lost_in_reload    of all samples of the plant, edits included: lost, doubled or declared missing
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.edge import plant, rates
from bench.edge.center import center

PARTS = ("gate", "replays", "lanes", "watchers", "models")


def run(*, quick: bool = False) -> Mapping[str, float | None]:
    """Measures and returns the figures by name."""
    place = Path("var")  # on the disk: what /tmp is on some machines is memory
    place.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.resolve()) as folder:
        (Path(folder) / "plant").mkdir()
        # A quick run does both at once: most of the time each waits, and what they cost is told by process.
        with ThreadPoolExecutor(2 if quick else 1) as pool:
            parts = [
                pool.submit(_rates, Path(folder), quick=quick),
                pool.submit(plant.measure, Path(folder) / "plant", quick=quick),
            ]
            figures: dict[str, float | None] = {name: value for one in parts for name, value in one.result().items()}
    return {name: None if value is None else round(value, 3) for name, value in figures.items()}


def _rates(folder: Path, *, quick: bool) -> dict[str, float | None]:
    seconds = 5.0 if quick else 30.0
    figures: dict[str, float | None] = {}
    with center(folder) as made:
        if not quick:
            small = rates.measure(made, 100, seconds)
            figures["cpu_pct_at_100"] = 100 * small["cpu_s"] / small["seconds"]
        middle = rates.measure(made, 1000, seconds, peer=True, reloads=5 if quick else 50)
        large = rates.measure(made, 10_000, seconds, peer=not quick, parts=quick)
        if not quick:
            figures |= _parts(rates.measure(made, 10_000, seconds, parts=True))
        else:
            figures |= _parts(large)
    for name, found in (("1k", middle), ("10k", large)):
        figures[f"cpu_pct_at_{name}"] = 100 * found["cpu_s"] / found["seconds"]
        figures[f"rss_mb_at_{name}"] = found["rss_mb"]
        figures[f"committed_per_s_{name}"] = found["committed"] / found["seconds"]
        figures[f"coordinator_cpu_pct_{name}"] = 100 * found["coordinator_cpu_s"] / found["seconds"]
        figures[f"cpu_vs_collector_{name}"] = _against(found)
    figures["points_per_s_core"] = large["committed"] / large["cpu_s"]
    figures["points_per_s_core_1k"] = middle["committed"] / middle["cpu_s"]
    figures["reload_ms"] = middle["reload_ms"]
    return figures


def _against(found: Mapping[str, Any]) -> float | None:
    """How many times the processor time of ours a point costs the collector; null where it did not run."""
    if not found.get("peer_points"):
        return None
    return float(found["peer_cpu_s"] / found["peer_points"] / (found["cpu_s"] / found["committed"]))


def _parts(found: Mapping[str, Any]) -> dict[str, float | None]:
    """Microseconds a point of each part; the event loop's rest is drivers and the library of the link."""
    points = found["committed"]
    parts = {name: found["parts_s"].get(name, 0.0) for name in PARTS}
    parts["threads"] = max(0.0, found["cpu_s"] - found["loop_s"])
    parts["drivers_and_rest"] = found["loop_s"] - sum(found["parts_s"].values())
    return {f"part_us_{name}": 1e6 * spent / points for name, spent in parts.items()}

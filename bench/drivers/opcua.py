"""OPC UA: thousands of variables that change once a second, our driver beside a plain asyncua subscription.

Both take turns against the same server in a process of its own; what is compared is the processor time a value costs
each. A number of variables has no lag when every one of them came every second, and the slowest within the period.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from statistics import median

from bench.drivers.opcua_server import PERIOD_S
from bench.drivers.process import ask, cpu_s, process, said

VARIABLES = 6000
MORE = 12_000
PATIENCE = 4
FEW = 1500  # what a value costs the plain loop hardly depends on their number, but its start does


def run(*, quick: bool) -> Mapping[str, float | None]:
    """Measures; see `bench.drivers` for the figures."""
    rounds, seconds = (1, 4.0) if quick else (3, 12.0)
    ours: list[dict[str, float]] = []
    plain: list[float] = []
    with process("-m", "bench.drivers.opcua_server", str(VARIABLES)) as server:
        port = said(server)
        for _ in range(rounds):
            plain.append(_plain(port, FEW if quick else VARIABLES, seconds))
            ours.append(_ours(port, VARIABLES, seconds))
    ratios = [found["cpu_s"] / found["values"] / cost for found, cost in zip(ours, plain, strict=True)]
    no_lag = VARIABLES if all(_in_time(found, VARIABLES) for found in ours) else 0
    if no_lag and not quick:
        with process("-m", "bench.drivers.opcua_server", str(MORE)) as server:
            found = _ours(said(server), MORE, seconds)
            no_lag = MORE if _in_time(found, MORE) else no_lag
    return {
        "opcua_vars_no_lag": no_lag,
        "opcua_cpu_vs_plain_asyncua": median(ratios),
        "opcua_cpu_share": median(found["cpu_s"] / found["seconds"] for found in ours),
        "opcua_lag_s": max(found["lag_s"] for found in ours),
        "opcua_us_per_value": 1e6 * median(found["cpu_s"] / found["values"] for found in ours),
        "opcua_plain_us_per_value": 1e6 * median(plain),
    }


def _in_time(found: Mapping[str, float], variables: int) -> bool:
    """Whether every variable came once a period, give or take the one at the edge, and none late."""
    periods = found["values"] / variables
    return found["lag_s"] < PERIOD_S and found["holes"] == 0 and periods >= found["seconds"] / PERIOD_S - 1


def _plain(port: str, variables: int, seconds: float) -> float:
    """Processor time a value costs the plain subscription."""
    with process("-m", "bench.drivers.opcua_plain", port, str(variables)) as loop:
        said(loop)
        ask(loop)
        begun, values = cpu_s(loop.pid), int(ask(loop))
        for _ in range(PATIENCE):  # on a machine that is fully taken nothing may come for seconds
            time.sleep(seconds)
            spent, came = cpu_s(loop.pid) - begun, int(ask(loop)) - values
            if came and spent:
                return spent / came
    raise TimeoutError("the plain subscription hears nothing")


def _ours(port: str, variables: int, seconds: float) -> dict[str, float]:
    """What our driver costs, and how late it is."""
    with process("-m", "bench.drivers.opcua_ours", port, str(variables)) as driver:
        said(driver)
        ask(driver)
        before = json.loads(ask(driver))
        begun_s, begun = time.monotonic(), cpu_s(driver.pid)
        for _ in range(PATIENCE):
            time.sleep(seconds)
            cost, passed_s = cpu_s(driver.pid) - begun, time.monotonic() - begun_s
            after = json.loads(ask(driver))
            if after["values"] > before["values"]:
                break
        else:
            raise TimeoutError("our driver hears nothing")
    return {
        "cpu_s": cost,
        "seconds": passed_s,
        "values": after["values"] - before["values"],
        "holes": after["holes"] - before["holes"],
        "lag_s": after["lag_s"],
    }

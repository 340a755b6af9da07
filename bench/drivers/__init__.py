"""Drivers beside the plain loops people write with the same libraries.

One module a protocol, each with `run(*, quick) -> figures`; all together take less than 45 s when quick. Servers run
in processes of their own, and processor times are those of the reading process alone.

modbus_requests_vs_optimal    requests of the fifth cycle over the fewest an exact oracle finds: at most 1.05
modbus_points_per_s_core      points a second that one core reads, from 500 devices to the spool: higher is better
modbus_vs_plain_pymodbus      processor time of the same polls by a plain pymodbus loop over ours: higher is better
healthy_jitter_pct            spread of the polls of healthy devices beside a dead one, in percent of their period
agent_rss_mb                  memory of the agent under that load
opcua_vars_no_lag             variables sampled at 1 s without a late or lost notification: higher is better
opcua_cpu_vs_plain_asyncua    processor time of ours over that of a plain asyncua subscription: lower is better
mqtt_msgs_per_s               messages a second from the broker to the spool, QoS 1: higher is better
mqtt_vs_plain_aiomqtt         processor time of a message in a plain aiomqtt loop over our agent's: higher is better
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping

PARTS = ("modbus", "opcua", "mqtt")


def run(*, quick: bool = False) -> Mapping[str, float | None]:
    """Measures every protocol that has a module here and returns the figures by name."""
    figures: dict[str, float | None] = {}
    for part in PARTS:
        name = f"{__name__}.{part}"
        if importlib.util.find_spec(name) is not None:
            figures |= importlib.import_module(name).run(quick=quick)
    return {name: None if value is None else round(value, 3) for name, value in figures.items()}

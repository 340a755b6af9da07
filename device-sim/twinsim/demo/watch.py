"""Watches the demo as a person at the console would: by REST events; values as they arrive, alarms that come and go."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import Request, urlopen

from twinmodel.clock import SECOND_NS, Clock
from twinsim.deployment.audit import nanoseconds

TIMEOUT_S = 30.0
AGES_MAX = 1_000_000
ALARMS_MAX = 10_000


class Watch:
    """Listens in a thread; ages are from the sensor's event time to the arrival over REST, each value once.

    Args:
        url, tenant, token: of the coordinator.
        clock: whose wall time the ages are counted by.
        since_ns: when the demo began.
        told: is given each alarm as REST shows it, when it comes and when it goes.
    """

    def __init__(
        self, url: str, tenant: str, token: str, clock: Clock, since_ns: int, told: Callable[[dict[str, Any]], None]
    ) -> None:
        self._address = f"{url}/api/v1/tenants/{tenant}/events"
        self._token = token
        self._clock = clock
        self._since_ns = since_ns
        self._told = told
        self._alarms: dict[str, bool] = {}
        self._seen: dict[tuple[str, str, str], str] = {}
        self._paused: set[tuple[str, str]] = set()
        self.ages_s: list[float] = []
        self.first_estimate_s: float | None = None
        self._thread = threading.Thread(target=self._listen, name="watch", daemon=True)
        self._ending = False
        self._thread.start()

    def leave_out(self, site: str, gateway: str) -> None:
        """Does not count a gateway's values from now on: its link is cut, its backlog is not the live lane."""
        self._paused.add((site, gateway))

    def end(self) -> None:
        """Stops counting."""
        self._ending = True

    def freshness_p95_s(self) -> float | None:
        """95th percentile (nearest rank) of the ages."""
        ordered = sorted(self.ages_s)
        return ordered[max(0, -(-95 * len(ordered) // 100) - 1)] if ordered else None

    def _listen(self) -> None:
        while not self._ending:
            try:
                for event, body in self._events():
                    if self._ending:
                        return
                    if event == "twin":
                        self._take(body)
                    elif event == "alarm":
                        self._take_alarm(body)
            except (OSError, ValueError):
                threading.Event().wait(0.5)

    def _events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        request = Request(self._address)  # noqa: S310 - http to the coordinator of the demo
        request.add_header("Authorization", f"Bearer {self._token}")
        with urlopen(request, timeout=TIMEOUT_S) as stream:  # noqa: S310 - see above
            event = ""
            for raw in stream:
                line = raw.decode().rstrip("\r\n")
                if line.startswith("event:"):
                    event = line[6:].strip()
                elif line.startswith("data:"):
                    yield event, json.loads(line[5:])

    def _take_alarm(self, alarm: dict[str, Any]) -> None:
        """Tells it where it has come or gone since the last time; acknowledgements are no news here."""
        known, active = alarm["id"] in self._alarms, bool(alarm["active"])
        if active == self._alarms.get(alarm["id"], False) or (not known and len(self._alarms) >= ALARMS_MAX):
            return
        self._alarms[alarm["id"]] = active
        if not alarm["cause"]:
            self._told(alarm)

    def _take(self, twin: dict[str, Any]) -> None:
        now_ns = self._clock.wall_ns()
        counts = (twin["site"], twin["gateway"]) not in self._paused
        for prop in twin["properties"]:
            if prop["estimated"] is not None and self.first_estimate_s is None:
                self.first_estimate_s = (now_ns - self._since_ns) / SECOND_NS
            value = prop["reported"]
            if value is None or not value["quality"].startswith("good"):
                continue
            key = (twin["site"], twin["twin"], prop["name"])
            if self._seen.get(key) == value["t_event"]:
                continue
            first = key not in self._seen
            self._seen[key] = value["t_event"]
            # The first value of a twin waited for its gateway to come up; that is start-up, not freshness.
            if counts and not first and len(self.ages_s) < AGES_MAX:
                self.ages_s.append((now_ns - nanoseconds(value["t_event"])) / SECOND_NS)

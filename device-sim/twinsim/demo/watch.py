"""Watches the demo as a person at the console would: by REST events, measuring how fresh each value arrives."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

from twinmodel.clock import SECOND_NS, Clock
from twinsim.deployment.audit import nanoseconds

TIMEOUT_S = 30.0
AGES_MAX = 1_000_000


class Watch:
    """Listens in a thread; ages are from the sensor's event time to the arrival over REST, each value once."""

    def __init__(self, url: str, tenant: str, token: str, clock: Clock, since_ns: int) -> None:
        self._address = f"{url}/api/v1/tenants/{tenant}/events"
        self._token = token
        self._clock = clock
        self._since_ns = since_ns
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

"""The story of the demo: start everything, let one twin drift, cut one gateway off, swap a model, and count.

devices ─▶ 6 agents ─▶ coordinator ─▶ console      each a process of its own, as in a plant
   └────────── served log ───────────▶ verdict     what was given out against what was stored
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twinmodel.clock import SECOND_NS, Clock
from twinsim.demo import layout
from twinsim.demo.watch import Watch
from twinsim.deployment.processes import ended_together, rss_bytes, run
from twinsim.deployment.running import START_S, TENANT, Ports, Running, find_examples
from twinsim.served import Verdict

MIB = 2**20
VIEWER_TOKEN = ("twincloud", "token", "create", "demo-viewer", "--role", "viewer", "--ttl", "12h", "--tenant")


class Story:
    """One telling of the demo in a fresh state directory."""

    def __init__(
        self, state: Path, ports: Ports, clock: Clock, say: Callable[[str], object], *, seed: int = 1, broker: str = ""
    ) -> None:
        plan = layout.deployment(seed=seed, port=ports.devices, broker=broker)
        self.plant = Running(plan, find_examples(), state, clock, ports)
        self.operator = self.plant.operator
        self.clock = clock
        self.say = say
        self.began_ns = clock.wall_ns()
        self._swaps = 0

    def tell(self, seconds: int) -> dict[str, Any]:
        """Runs the whole story and returns its figures; 0 seconds runs until interrupted."""
        password = self.plant.state / layout.SCADA_PASSWORD_FILE
        password.touch(0o600)
        password.write_text(secrets.token_urlsafe(12) + "\n")
        with ended_together(self.plant.programs):
            self.plant.start()
            watch = Watch(self.operator.url, TENANT, self.operator.token, self.clock, self.began_ns, self._say_alarm)
            self._welcome(watch)
            try:
                self._acts(seconds, watch)
            except KeyboardInterrupt:
                self.say("ending")
            watch.end()
            self._say_memory()
            self.say("letting everything drain, then counting what was given out and what is stored")
            verdict = self.plant.close()
            self._swaps = self._count_swaps()
            return self._figures(verdict, watch)

    # ---- acts ----------------------------------------------------------------------------------------------------

    def _welcome(self, watch: Watch) -> None:
        for _ in range(int(START_S * 10)):
            if watch.first_estimate_s is not None:
                break
            threading.Event().wait(0.1)
        url, state = self.operator.url, str(self.plant.state / "coordinator")
        code = run(
            "twincloud-token",
            [*VIEWER_TOKEN, TENANT, "--state", state],
            self.plant.logs,
        ).strip()
        context = f"HYBRIDTWIN_URL={url} HYBRIDTWIN_TENANT={TENANT} HYBRIDTWIN_TOKEN={code}"
        self.say(f"\n  console   {url}/login?code={code}\n")
        self.say(f"  next      export {context}")
        self.say("            export PATH=$PWD/.venv/bin:$PATH")
        self.say("            twinctl fleet")
        self.say(f"            twinctl twin show north/{layout.twin_of(layout.DRIFTING)}")
        self.say("            twinctl alarm list")
        self.say(f"            twinsim fault T-2 stuck --for 60s --state {self.plant.devices}")
        self._say_local_view()
        if watch.first_estimate_s is not None:
            self.say(f"{watch.first_estimate_s:6.1f} s  first estimate")

    def _say_local_view(self) -> None:
        """How what a gateway serves to its site is looked at."""
        for _ in range(int(START_S * 10)):
            view = self.plant.status(layout.SERVING)["northbound"]["opcua"]
            if view["serving"]:
                break
            threading.Event().wait(0.1)
        state = self.plant.state
        self.say(f"  SCADA     twinedge browse opcua opc.tcp://127.0.0.1:{view['port']} --path n2/Twins/exchanger-3 \\")
        self.say(f"                --user {layout.SCADA_USER} --password-file {state / layout.SCADA_PASSWORD_FILE} \\")
        self.say(f"                --state {state / 'visitor'}")
        self.say(f"            thumbprint of the server: {view['thumbprint']}\n")

    def _acts(self, seconds: int, watch: Watch) -> None:
        """One twin drifts after a minute, one gateway goes offline and comes back, one model is swapped."""
        scale = min(1.0, seconds / 120) if seconds else 1.0
        plan: list[tuple[float, Callable[[], object]]] = [
            (20 * scale, lambda: self._cut(watch, 40 * scale)),
            (40 * scale, self._swap),
            (60 * scale, self._drift),
            (61 * scale, lambda: self.say(self._elapsed() + "south/s2 is online again, its backlog drains")),
        ]
        begun_ns = self.clock.boot_ns()
        pause = threading.Event()
        while not seconds or self.clock.boot_ns() - begun_ns < seconds * SECOND_NS:
            while plan and self.clock.boot_ns() - begun_ns >= plan[0][0] * SECOND_NS:
                plan.pop(0)[1]()
            self.plant.check_alive()
            pause.wait(0.2)

    def _cut(self, watch: Watch, lasting_s: float) -> None:
        watch.leave_out(*layout.OFFLINE)
        self.plant.fault({"do": "fault", "target": layout.LINK, "kind": "cut", "for_s": lasting_s})
        self.say(self._elapsed() + f"the link of {'/'.join(layout.OFFLINE)} is cut for {lasting_s:.0f} s")

    def _swap(self) -> None:
        site, twin = layout.SWAPPED
        for target in (f"{site}/{twin}", "north/tank-1"):
            place, name = target.split("/")
            self.operator.call("PUT", f"sites/{place}/twins/{name}/model", body={"model": "two-tanks@1.1.0"})
            self.say(self._elapsed() + f"{target} gets two-tanks@1.1.0 between two ticks")

    def _drift(self) -> None:
        self.plant.fault({"do": "fault", "target": layout.DRIFTING, "kind": "plant_drift", "size": 0.5})
        self.say(self._elapsed() + f"{layout.DRIFTING} fouls: its twin will say so")

    # ---- end -----------------------------------------------------------------------------------------------------

    def _count_swaps(self) -> int:
        directives = self.operator.call("GET", "directives")["items"]
        return sum(d["outcome"] == "APPLIED" and d["version"] > 1 for d in directives)

    def _figures(self, verdict: Verdict, watch: Watch) -> dict[str, Any]:
        for example in (*verdict.lost_examples, *verdict.duplicate_examples):
            self.say(f"  {example}")
        twins = sum(1 for _ in self.operator.pages("twins"))
        self.say(
            f"\n{twins} twins, {len(self.plant.agents)} gateways: {verdict.samples_acquired} samples acquired, "
            f"{verdict.samples_stored} stored, {verdict.lost} lost, {verdict.duplicates} duplicates, "
            f"{verdict.declared_missing} declared missing"
        )
        exact, ticks = self._replayed()
        self.say(f"{exact} of {ticks} ticks of all models computed again from history, bit for bit")
        freshness = watch.freshness_p95_s()
        return {
            "twins": twins,
            "gateways": len(self.plant.agents),
            "samples_acquired": verdict.samples_acquired,
            "samples_stored": verdict.samples_stored,
            "lost": verdict.lost,
            "duplicates": verdict.duplicates,
            "declared_missing": verdict.declared_missing,
            "first_estimate_s": None if watch.first_estimate_s is None else round(watch.first_estimate_s, 2),
            "freshness_p95_s": None if freshness is None else round(freshness, 3),
            "models_swapped": self._swaps,
            "ticks": ticks,
            "ticks_replayed_exactly": exact,
        }

    def _replayed(self) -> tuple[int, int]:
        """Ticks that the coordinator can compute again, and all of them; the others are told with their reason."""
        exact = ticks = 0
        # Nanoseconds as they are; devices may be a little ahead.
        span = f"from={self.began_ns}&to={self.clock.wall_ns() + 60 * SECOND_NS}"
        for twin in list(self.operator.pages("twins")):
            name = f"{twin['site']}/{twin['twin']}"
            found = self.operator.call("GET", f"sites/{twin['site']}/twins/{twin['twin']}/replay?{span}")
            exact, ticks = exact + found["exact"], ticks + found["ticks"]
            for one in found["spans"]:
                if one["reason"]:
                    self.say(f"  {name}: {one['ticks']} ticks {one['verdict']}: {one['words']}")
        return exact, ticks

    def _say_memory(self) -> None:
        used = {p.name: rss_bytes(p.pid) / MIB for p in self.plant.programs if p.running}
        self.say("memory    " + ", ".join(f"{name} {mib:.0f} MiB" for name, mib in used.items()))

    def _say_alarm(self, alarm: dict[str, Any]) -> None:
        where = f"{alarm['site']}/{alarm['gateway']} {alarm['alarm']}"
        what = f"ALARM {where}: {alarm['text']}" if alarm["active"] else f"alarm {where} has gone"
        self.say(self._elapsed() + what)

    def _elapsed(self) -> str:
        return f"{(self.clock.wall_ns() - self.began_ns) / SECOND_NS:6.1f} s  "

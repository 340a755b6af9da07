"""A small coordinator for tests of its clients: the shapes of the REST API over values that move with the clock.

`FakeCoordinator` holds what was pushed, assigned and invited, so that a test can look at it; `Server` runs it on a free
loopback port. Knobs: `frozen_s` stops all values (what stale looks like), `streaming` ends event streams,
`described` gives twins a record, desired values and relationships.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import math
import threading
import time
from datetime import UTC, datetime

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from tests import fake_described, fake_retention
from twincloud.api.auth import COOKIE
from twincloud.api.principals import Principals
from twincloud.api.threads import Threads
from twincloud.api.v1 import holdings as h
from twincloud.api.v1 import schemas as s
from twincloud.api.v1.twins import resolution_for
from twincloud.api.views import bucket_view
from twincloud.identity.ledger import Content
from twincloud.identity.tokens import hash_of
from twincloud.storage.contract import Principal, Property
from twincloud.twins.buckets import WIDTHS_NS, joined, minutes_of, widened
from twincloud.twins.history import Columns
from twinmodel.clock import SystemClock
from twinmodel.errors import REASONS, DeniedError, MissingError, TwinError
from twinmodel.quality import QualityReason, bad, describe, good, uncertain

TOKEN = "ht_test_0123456789"  # a token of this fake alone
VIEWER = "ht_viewer_0123456789"
S = 1_000_000_000


def stamp(t_ns: int) -> str:
    """RFC 3339 with nine digits."""
    return datetime.fromtimestamp(t_ns // S, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{t_ns % S:09d}Z"


def nanoseconds(text: str) -> int:
    """Integer time of an RFC 3339 text."""
    head, _, digits = text.rstrip("Z").partition(".")
    whole = datetime.fromisoformat(head).replace(tzinfo=UTC)
    return int(whole.timestamp()) * S + int((digits or "0").ljust(9, "0")[:9])


@functools.lru_cache(1 << 17)
def noise(name: str, k: int) -> float:
    """A repeatable value in [-1, 1]."""
    return int.from_bytes(hashlib.blake2b(f"{name}{k}".encode(), digest_size=4).digest()) / 2**31 - 1


TWINS = [
    ("harbour", "P-101", "gw-quay", "ok"),
    ("harbour", "P-102", "gw-quay", "warn"),
    ("harbour", "P-103", "gw-quay", "ok"),
    ("harbour", "HX-7", "gw-quay", "bad"),
    ("mill", "TK-1", "gw-north", "ok"),
    ("mill", "TK-2", "gw-north", "ok"),
    ("mill", "P-103", "gw-north", "ok"),
    ("quarry", "P-301", "gw-rim", "offline"),
]
WHY = {
    "ok": "",
    "warn": "drift of flow is 1.34, above its limit of 1.0 for 12 min",
    "bad": "flow reads bad(NOT_CONNECTED) since 14:02:11; device pump-plc does not answer",
    "offline": "gateway gw-rim was last seen 2 h 14 min ago, limit 60 s",
}
PROPERTIES = {  # name -> unit, mean, swing, what it is
    "flow": ("m3/h", 42.0, 4.0, "output"),
    "head": ("m", 31.0, 1.2, "output"),
    "efficiency": ("1", 0.71, 0.03, "virtual"),
    "speed": ("1/min", 1480.0, 35.0, "input"),
    "power": ("kW", 5.4, 0.4, "input"),
}


class NoLedger:
    """A ledger nobody has written to."""

    def __init__(self) -> None:
        self._content = Content()

    def content(self) -> Content:
        return self._content

    def token(self, token_hash: bytes) -> None:
        return None


class FakeCoordinator:
    """State and values of the fake."""

    def __init__(self, extra_twins: int = 0) -> None:
        self.twins = TWINS + [(f"site-{k % 7}", f"V-{k:04d}", f"gw-{k % 7}", "ok") for k in range(extra_twins)]
        self.frozen_s: float | None = None
        self.began_s = 0.0
        self.quality = good()
        self.substituted = False
        self.kick = 0.0
        self.streaming = True
        self.described = False
        self.streams = 0
        self.requests: list[str] = []
        self.wishes: list[h.WishView] = []
        self.models: dict[str, s.ModelView] = {}
        self.artifacts: dict[str, bytes] = {}
        self.directives: list[s.DirectiveView] = []
        self.signers: dict[str, str] = {}
        self.outcome = "APPLIED"
        self.dead_letters = [
            s.DeadLetterView(
                id=1, site="mill", gateway="gw-north", boot="9f" * 16, stream="TELEMETRY", first_seq=10, last_seq=19,
                reason="BLOCK_CORRUPT", received=stamp(time.time_ns()), size=412,
            )
        ]  # fmt: skip
        self.add_model("pump", "1.4.1")
        self.add_model("pump", "1.4.2")

    def principal_of(self, token: str) -> Principal:
        if token not in (TOKEN, VIEWER):
            raise DeniedError("TOKEN_INVALID", "the token is unknown or expired")
        return Principal("viewer", "acme", "viewer") if token == VIEWER else Principal("admin", "*", "admin")

    def principal(self, token_hash: bytes, now_ns: int) -> Principal:
        known = {hash_of(token): token for token in (TOKEN, VIEWER)}
        return self.principal_of(known.get(token_hash, ""))

    def add_model(self, name: str, version: str, blob: bytes = b"") -> s.ModelView:
        digest = hashlib.sha256(blob or f"{name}@{version}".encode()).hexdigest()
        view = s.ModelView(
            name=name, version=version, digest=digest, model_id=digest[::-1], signer="ab" * 16,
            size=len(blob) or 18_432, created=stamp(time.time_ns()), inputs={"speed": "1/min", "power": "kW"},
            outputs={"flow": "m3/h", "head": "m", "efficiency": "1"},
        )  # fmt: skip
        self.models[f"{name}@{version}"] = view
        self.artifacts[digest] = blob
        return view

    def now_ns(self) -> int:
        return time.time_ns() if self.frozen_s is None else int(self.frozen_s * S)

    def point(self, twin: str, prop: str, health: str, k: int) -> dict[str, float | int | None]:
        """All roles of a property at half-second `k`."""
        _, mean, swing, what = PROPERTIES[prop]
        sigma = swing * (0.16 + 0.05 * math.sin(k / 190))
        truth = mean + swing * (math.sin(k / 120) + 0.35 * math.sin(k / 31 + len(twin)))
        wander = swing * 0.9 * max(0.0, math.sin(k / 400)) if health == "warn" and prop == "flow" else 0.0
        measured = truth + wander + sigma * 0.75 * noise(twin + prop, k) + (2.6 * sigma if k % 97 == 0 else 0)
        code = bad(QualityReason.NOT_CONNECTED) if health == "bad" and prop == "flow" and k % 40 < 8 else good()
        if k % 240 > 215 and prop == "head":
            code = good(QualityReason.BACKFILLED)
        drift = min(1.6, abs(wander) / sigma * 0.45 + 0.18 + 0.08 * noise(twin, k // 20))
        code = code or self.quality
        return {
            "measured": None if what == "virtual" else measured,
            "estimate": None if what == "input" else truth,
            "sigma": None if what == "input" else sigma,
            "prediction": None if what == "input" else truth + 0.3 * sigma,
            "innovation": None
            if what != "output"
            else measured - truth + (self.kick if k == int(self.began_s * 2) else 0),
            "drift": None if what != "output" else drift,
            "quality": code,
        }

    def view(self, site: str, twin: str, gateway: str, health: str) -> s.TwinView:
        now = self.now_ns() - (8_040 * S if health == "offline" else 0)
        k = now // (S // 2)
        t_ns = k * (S // 2)
        model = "pump@1.4.1" if twin == "TK-2" else "pump@1.4.2"
        properties = []
        for name, (unit, _, _, what) in PROPERTIES.items():
            p = self.point(twin, name, health, k)
            common = {"unit": unit, "t_event": stamp(t_ns), "t_received": stamp(t_ns + 180_000_000)}
            common |= {"t_committed": stamp(t_ns + 212_000_000), "block": f"{'9f' * 16}/TELEMETRY/{k}"}
            by = {"model": model, "model_id": "c4" * 32}
            stands_in = self.substituted and what == "output"
            replaced = s.ValueView(value=None, quality=describe(p["quality"]), origin="measured", **common)
            substitute = s.ValueView(
                value=p["estimate"], sigma=p["sigma"], quality=describe(uncertain(QualityReason.SUBSTITUTED)),
                origin="substituted", **common, **by)  # fmt: skip
            properties.append(
                s.PropertyView(
                    name=name,
                    unit=unit,
                    signal=f"pump-plc.{name}" if what != "virtual" else "",
                    replaced=replaced if stands_in else None,
                    reported=None if what == "virtual" else substitute if stands_in else s.ValueView(
                        value=p["measured"], quality=describe(p["quality"]), origin="measured", **common),
                    estimated=None if what == "input" else s.ValueView(
                        value=p["estimate"], sigma=p["sigma"], quality="good", origin="estimated", **common, **by),
                    predicted=None if what == "input" else s.ValueView(
                        value=p["prediction"], sigma=p["sigma"], quality="good", origin="predicted",
                        target_time=stamp(t_ns + 60 * S), **common, **by),
                    innovation=p["innovation"],
                    drift=p["drift"],
                )
            )  # fmt: skip
        newest = next((d for d in reversed(self.directives) if (d.site, d.target) == (site, twin)), None)
        desired = newest.name if newest else model
        running = desired if newest and newest.outcome == "APPLIED" else model
        return s.TwinView(
            tenant="acme", site=site, twin=twin, gateway=gateway, definition="centrifugal-pump", health=health,
            why=WHY[health], drifting=health == "warn", freshness_s=(time.time_ns() - t_ns) / S, revision=k % 100_000,
            updated=stamp(t_ns), properties=properties,
            model=s.ModelStateView(
                desired=desired, running=running, running_digest="5e" * 32, tier="generated",
                directive=newest.id if newest else "", outcome=newest.outcome if newest else "",
                reason=newest.reason if newest else "",
            ),
        )  # fmt: skip

    def find(self, site: str, twin: str) -> s.TwinView:
        for row in self.twins:
            if row[:2] == (site, twin):
                view = self.view(*row)
                return fake_described.describe(view) if self.described else view
        raise MissingError("UNKNOWN_TWIN", f"no twin {twin!r} at site {site!r}")

    def history(
        self, site: str, twin: str, prop: str, roles: list[str], span: tuple[int, int], points: int, asked: str = "raw"
    ) -> s.HistoryView:
        health = next(row[3] for row in self.twins if row[:2] == (site, twin))
        if prop not in PROPERTIES:
            raise MissingError("NOT_FOUND", f"twin {twin} has no property {prop!r}")
        until = min(span[1], self.now_ns() - (8_040 * S if health == "offline" else 0))
        first = max(-(-span[0] // (S // 2)), int(self.began_s * 2))
        ks = range(max(first, until // (S // 2) - points + 1), until // (S // 2) + 1)
        rows = [self.point(twin, prop, health, k) for k in ks]
        series = {}
        if asked not in ("", "raw"):
            resolution = resolution_for(span[1] - span[0], points) if asked == "auto" else asked
            if resolution != "raw":
                return self.buckets(twin, prop, roles, span, (first, until // (S // 2)), resolution, health)
        for role in roles:
            kept = [(k, row) for k, row in zip(ks, rows, strict=True) if row[role] is not None]
            series[role] = s.SeriesView(
                t_ns=[k * (S // 2) for k, _ in kept],
                value=[row[role] for _, row in kept],
                quality=[row["quality"] if role == "measured" else 0 for _, row in kept],
                truncated=ks.start > first,
            )
        return s.HistoryView(
            property=prop, unit=PROPERTIES[prop][0], from_time=stamp(span[0]), to_time=stamp(span[1]), series=series
        )

    def buckets(self, twin, prop, roles, span, ks, resolution, health) -> s.HistoryView:
        """Four points for each bucket, as if that were all."""
        step = WIDTHS_NS[resolution] // (S // 2)
        places = [
            k for start in range(ks[0] // step * step, ks[1] + 1, step) for k in range(start, start + step, step // 4)
        ]
        rows = [(k, self.point(twin, prop, health, k)) for k in places if ks[0] <= k <= ks[1]]
        found = {}
        for role in roles:
            kept = [(k, row[role]) for k, row in rows if row[role] is not None]
            t_ns = np.array([k * (S // 2) for k, _ in kept], np.int64)
            columns = Columns(t_ns, np.array([v for _, v in kept], float), np.zeros(len(kept), np.uint16))
            found[role] = widened(minutes_of(columns), WIDTHS_NS[resolution]) if kept else joined([])
        of = Property(prop, PROPERTIES[prop][0], "")
        return bucket_view(of, found, resolution, 20_000, from_ns=span[0], to_ns=span[1])

    def gateways(self) -> list[s.GatewayView]:
        rows = []
        for site, name in sorted({(t[0], t[2]) for t in self.twins}):
            off = name == "gw-rim"
            seen = self.now_ns() - (8_040 * S if off else S)
            rows.append(
                s.GatewayView(
                    tenant="acme", site=site, gateway=name, state="active", connected=not off,
                    health="offline" if off else "ok", why=WHY["offline"] if off else "", boot="9f" * 16,
                    boot_counter=3, last_seen=stamp(seen), clock="SYNCED", agent_version="0.1.0",
                    backlog_bytes=1_240_000 if off else 0,
                    backlog_samples=803_500 if off else 0, oldest=stamp(seen) if off else None, samples=184_223_901,
                    duplicates_refused=12, certificate_serial="0a1b2c", certificate_until=stamp(seen + 30 * 86_400 * S),
                    twins=sum(t[2] == name for t in self.twins),
                )
            )  # fmt: skip
        return rows

    def summary(self) -> s.FleetSummary:
        sites = []
        for site in sorted({t[0] for t in self.twins}):
            mine = [t[3] for t in self.twins if t[0] == site]
            gateways = [g for g in self.gateways() if g.site == site]
            counts = {h: mine.count(h) for h in ("ok", "warn", "bad", "offline")}
            connected = sum(g.connected for g in gateways)
            sites.append(s.SiteHealth(site=site, **counts, gateways=len(gateways), gateways_connected=connected))
        order = ["bad", "offline", "warn", "ok"]
        attention = [
            s.Attention(severity=h, kind="twin", site=site, name=twin, why=WHY[h])
            for site, twin, _, h in sorted(self.twins, key=lambda t: order.index(t[3]))
            if h != "ok"
        ]
        attention.insert(
            2, s.Attention(severity="offline", kind="gateway", site="quarry", name="gw-rim", why=WHY["offline"])
        )
        versions: dict[str, int] = {}
        for t in self.twins:
            model = "pump@1.4.1" if t[1] == "TK-2" else "pump@1.4.2"
            versions[model] = versions.get(model, 0) + 1
        return s.FleetSummary(
            tenant="acme", **{h: sum(t[3] == h for t in self.twins) for h in order}, gateways=len(self.gateways()),
            gateways_connected=sum(g.connected for g in self.gateways()), freshness_p50_s=0.42, freshness_p95_s=1.31,
            lag_p95_s=0.212, backlog_bytes=1_240_000, backlog_samples=803_500, samples=184_223_901 + self.now_ns() // S,
            sites=sites, versions=versions, attention=attention, last_event=self.now_ns() // S,
            server_time=stamp(time.time_ns()),
        )  # fmt: skip

    def assign(self, site: str, twin: str, body: s.AssignRequest) -> s.DirectiveView:
        view = self.find(site, twin)
        if body.model not in self.models:
            raise MissingError("UNKNOWN_MODEL", f"no model {body.model}; the nearest is pump@1.4.2")
        now = time.time_ns()
        directive = s.DirectiveView(
            id=f"d-{len(self.directives) + 1}", site=site, gateway=view.gateway, kind="model", target=twin, version=2,
            name=body.model, digest=self.models[body.model].digest, created=stamp(now), created_by="admin",
            deadline=stamp(now + body.deadline_s * S), outcome="", reason="", detail="", ended=None,
        )  # fmt: skip
        self.directives.append(directive)
        return directive

    def settle(self) -> None:
        """What a gateway would do a moment later."""
        for directive in self.directives:
            if not directive.outcome and self.outcome:
                directive.outcome, directive.ended = self.outcome, stamp(time.time_ns())
                directive.reason = "PARITY_FAILED" if self.outcome == "REJECTED" else ""


def page(items: list, size: int, token: str) -> dict:
    start = int(token or 0)
    more = start + size < len(items)
    return {"items": items[start : start + size], "next_page_token": str(start + size) if more else ""}


def problem(error: TwinError, path: str) -> JSONResponse:
    status = REASONS[error.reason].http
    body = s.Problem(type=f"urn:hybridtwin:{error.reason}", title=error.reason, status=status, detail=error.message,
                     reason=error.reason, hint=error.hint, instance=path)  # fmt: skip
    return JSONResponse(body.model_dump(), status, media_type="application/problem+json")


def make_app(fake: FakeCoordinator) -> FastAPI:  # noqa: C901, PLR0915 - one short function per path
    """The REST API of the fake; the console can be mounted beside it."""
    app = FastAPI()
    base = "/api/v1/tenants/{t}"
    # what the console's pages use of the real coordinator
    app.state.threads = Threads(2)
    app.state.principal_of = fake.principal_of
    app.state.principals = Principals(fake, NoLedger(), app.state.threads, SystemClock())

    @app.middleware("http")
    async def authenticate(request: Request, call_next):
        fake.requests.append(f"{request.method} {request.url.path}?{request.url.query}".rstrip("?"))
        if request.url.path.startswith("/api/"):
            token = request.headers.get("authorization", "").removeprefix("Bearer ")
            token = token or request.cookies.get(COOKIE, "")
            try:
                principal = fake.principal_of(token)
            except TwinError as refused:
                return problem(refused, request.url.path)
            if principal.role == "viewer" and request.method != "GET":
                return problem(DeniedError("FORBIDDEN", "viewer may not do this; needs engineer"), request.url.path)
        return await call_next(request)

    @app.exception_handler(TwinError)
    async def on_error(request: Request, error: TwinError) -> JSONResponse:
        return problem(error, request.url.path)

    @app.get(base + "/fleet")
    def fleet(t: str) -> s.FleetSummary:
        return fake.summary()

    @app.get(base + "/alarms:summary")
    def alarm_summary(t: str) -> s.AlarmCounts:
        return s.AlarmCounts()

    @app.get(base + "/alarms")
    def alarms(t: str) -> dict[str, object]:
        return {"items": [], "next_page_token": ""}

    @app.get(base + "/sites")
    def sites(t: str) -> s.SiteList:
        return s.SiteList(items=fake.summary().sites)

    @app.get(base + "/gateways")
    def gateways(t: str, site: str = "", page_size: int = 100, page_token: str = "") -> s.GatewayList:
        rows = [g for g in fake.gateways() if site in ("", g.site)]
        return s.GatewayList(**page(rows, page_size, page_token))

    @app.get(base + "/sites/{site}/gateways/{g}")
    def gateway(t: str, site: str, g: str) -> s.GatewayView:
        for row in fake.gateways():
            if (row.site, row.gateway) == (site, g):
                return row
        raise MissingError("UNKNOWN_GATEWAY", f"no gateway {g!r} at site {site!r}")

    @app.get(base + "/sites/{site}/gateways/{g}/losses")
    def losses(t: str, site: str, g: str) -> h.LossList:
        if g != "gw-rim":
            return h.LossList(items=[])
        now = time.time_ns()
        return h.LossList(items=[h.LossView(
            kind="GAP", reason="DROP_OLDEST", device="pump-plc", boot="9f" * 16, stream="TELEMETRY", first_seq=120,
            count=512, from_time=stamp(now - 600 * S), to_time=stamp(now - 300 * S))])  # fmt: skip

    @app.get(base + "/sites/{site}/gateways/{g}/wishes")
    def wishes(t: str, site: str, g: str) -> h.WishList:
        return h.WishList(items=fake.wishes)

    @app.post(base + "/sites/{site}/gateways/{g}:coarsen")
    def coarsen(t: str, site: str, g: str, body: h.WishRequest) -> h.WishView:
        now = time.time_ns()
        until = stamp(now + body.ttl_s * S) if body.ttl_s else None
        wish = h.WishView(stream=body.stream, signal=body.signal, period_s=body.period_s, until=until,
                          created=stamp(now), created_by="desk")  # fmt: skip
        fake.wishes = [w for w in fake.wishes if (w.stream, w.signal) != (wish.stream, wish.signal)]
        fake.wishes += [wish] if wish.period_s else []
        return wish

    @app.post(base + "/gateways:invite")
    def invite(t: str, body: s.InviteRequest) -> s.InviteView:
        return s.InviteView(
            site=body.site, gateway=body.gateway, url="https://127.0.0.1:8420", token="once-only", ca_sha256="ab" * 32,
            expires=stamp(time.time_ns() + body.ttl_s * S),
            join="twinedge join https://127.0.0.1:8420 --token once-only --ca-sha256 " + "ab" * 32,
        )  # fmt: skip

    @app.get(base + "/twins")
    def twins(t: str, site: str = "", page_size: int = 100, page_token: str = "") -> s.TwinList:
        rows = [row for row in fake.twins if site in ("", row[0])]
        body = page(rows, page_size, page_token)
        return s.TwinList(items=[fake.view(*r) for r in body["items"]], next_page_token=body["next_page_token"])

    @app.get(base + "/sites/{site}/twins/{twin}")
    def twin(t: str, site: str, twin: str, response: Response) -> s.TwinView:
        fake.settle()
        view = fake.find(site, twin)
        response.headers["etag"] = f'"{view.revision}"'
        return view

    @app.get(base + "/sites/{site}/twins/{twin}/history")
    def history(t: str, site: str, twin: str, request: Request) -> Response:
        q = request.query_params
        roles = (q.get("roles") or "measured,estimate,sigma").split(",")
        now = time.time_ns()
        span = nanoseconds(q["from"]) if "from" in q else now - 3_600 * S, nanoseconds(q["to"]) if "to" in q else now
        points, asked = int(q.get("points") or 1_000), q.get("resolution") or "raw"
        view = fake.history(site, twin, q["property"], roles, span, points, asked)
        return Response(view.model_dump_json(by_alias=True), media_type="application/json")  # not checked once more

    @app.put(base + "/sites/{site}/twins/{twin}/model")
    def assign(t: str, site: str, twin: str, body: s.AssignRequest) -> s.DirectiveView:
        return fake.assign(site, twin, body)

    @app.get(base + "/models")
    def models(t: str, page_size: int = 100, page_token: str = "") -> s.ModelList:
        return s.ModelList(**page(list(fake.models.values()), page_size, page_token))

    @app.post(base + "/models")
    async def push(t: str, request: Request) -> s.ModelView:
        return fake.add_model("pump", "1.5.0", await request.body())

    @app.get(base + "/models/{name}/versions/{version}")
    def model(t: str, name: str, version: str) -> s.ModelView:
        if f"{name}@{version}" not in fake.models:
            raise MissingError("UNKNOWN_MODEL", f"no model {name}@{version}")
        return fake.models[f"{name}@{version}"]

    @app.get(base + "/artifacts/{digest}")
    def artifact(t: str, digest: str) -> Response:
        return Response(fake.artifacts[digest], media_type="application/octet-stream")

    @app.get(base + "/signers")
    def signers(t: str) -> s.SignerList:
        return s.SignerList(items=[s.SignerView(key_id=k, public_key_pem=v) for k, v in fake.signers.items()])

    @app.post(base + "/signers")
    def trust(t: str, body: s.SignerRequest) -> s.SignerView:
        key_id = hashlib.sha256(body.public_key_pem.encode()).hexdigest()[:32]
        fake.signers[key_id] = body.public_key_pem
        return s.SignerView(key_id=key_id, public_key_pem=body.public_key_pem)

    @app.get(base + "/directives")
    def directives(t: str, target: str = "") -> s.DirectiveList:
        fake.settle()
        return s.DirectiveList(items=[d for d in reversed(fake.directives) if target in ("", d.target)])

    fake_described.add_routes(app, base)
    fake_retention.add_routes(app, base)

    @app.get(base + "/deadLetters")
    def dead_letters(t: str) -> s.DeadLetterList:
        return s.DeadLetterList(items=fake.dead_letters)

    @app.post(base + "/deadLetters/{letter}:requeue")
    def requeue(t: str, letter: int) -> s.RequeueView:
        found = [x for x in fake.dead_letters if x.id == letter]
        if not found:
            raise MissingError("NOT_FOUND", f"no dead letter {letter}")
        fake.dead_letters.remove(found[0])
        return s.RequeueView(id=letter, samples=found[0].last_seq - found[0].first_seq + 1)

    @app.get(base + "/events")
    async def events(t: str, request: Request, site: str = "", twin: str = "") -> StreamingResponse:
        async def lines():
            fake.streams += 1
            try:
                number = int(request.headers.get("last-event-id") or 0)
                while fake.streaming and not await request.is_disconnected():
                    for row in fake.twins:
                        if row[3] == "offline" or site not in ("", row[0]) or twin not in ("", row[1]):
                            continue
                        number += 1
                        view = fake.find(*row[:2])
                        yield f"id: {number}\nevent: twin\ndata: {view.model_dump_json()}\n\n"
                    await asyncio.sleep(0.25)
            finally:
                fake.streams -= 1

        return StreamingResponse(lines(), media_type="text/event-stream")

    return app


class Server:
    """Runs an app on a free loopback port in a thread of its own."""

    def __init__(self, app: FastAPI) -> None:
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="fake-coordinator", daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        with contextlib.suppress(RuntimeError):
            self._thread.join(5)

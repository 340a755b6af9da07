"""Records, relationships, fleets, explanations and back-tests of the fake coordinator."""

from __future__ import annotations

from fastapi import FastAPI, Response

from twincloud.api.v1 import fleet_shapes as f
from twincloud.api.v1 import schemas as s
from twincloud.api.v1 import twin_shapes as t_

NOW = "2026-03-01T12:00:00.000000000Z"
OUTLIER = "estimated flow 61.2 m3/h is above that of its 6 peers: the median is 42.4, 5.1 scales away, the limit is 3.9"
FLEETS = {
    "pumps": ("Pumps of all sites that feed the ring main", "definition = 'centrifugal-pump' and not retired"),
    "quay": ("", ""),
}


def desired_of(name: str) -> s.ValueView | None:
    """What a described twin should do."""
    if name != "speed":
        return None
    return s.ValueView(value=1450.0, unit="1/min", quality="good", t_event=NOW, t_received=NOW, t_committed=NOW,
                       origin="commanded", by="ann")  # fmt: skip


def describe(view: s.TwinView) -> s.TwinView:
    """The same twin with a record of what people say."""
    properties = [
        p.model_copy(update={"desired": desired_of(p.name), "delta": 12.5, "differs": True}) if p.name == "speed" else p
        for p in view.properties
    ]
    update = {"properties": properties, "definition": "centrifugal-pump@1.2.0", "record_revision": 17,
              "tags": {"line": "3"}, "state": "active"}  # fmt: skip
    return view.model_copy(update=update)


def add_routes(app: FastAPI, base: str) -> None:
    """The routes beside those of values."""
    twin = base + "/sites/{site}/twins/{twin}"

    @app.get(twin + "/relationships")
    def relationships(t: str, site: str, twin: str) -> t_.RelationList:
        ends = {"type": "feeds", "properties": {"length": 3.0}, "revision": 4, "updated": NOW, "updated_by": "ann"}
        rows = [(site, twin, "mill", "TK-1"), ("harbour", "HX-7", site, twin)]
        names = ("site", "twin", "target_site", "target")
        return t_.RelationList(
            items=[t_.RelationView(**ends, **dict(zip(names, row, strict=True))) for row in rows]
        )  # fmt: skip

    @app.get(base + "/fleets")
    def fleets(t: str) -> f.FleetList:
        made = {"revision": 1, "created": NOW, "updated": NOW, "updated_by": "ann", "tenant": t}
        return f.FleetList(
            items=[
                f.FleetView(fleet=name, kind="filter" if text else "static", description=about, filter=text, **made)
                for name, (about, text) in FLEETS.items()
            ]
        )

    @app.get(base + "/fleets/{name}/aggregate")
    def aggregate(t: str, name: str) -> f.FleetAggregate:
        common = f.CommonView(model="pump@1.4.2", count=6, sigma_common=0.31, source="innovation")
        part = {"members": 8, "missing": {"offline": 1}, "outliers": 1, "role": "estimated"}
        numbers = {"minimum": 38.2, "maximum": 61.2, "quantiles": [f.Quantile(q=0.5, value=42.4)]}
        sure = f.Uncertainty(mean=0.42, total=2.9, independent=0.28, common=0.31, versions=[common])
        return f.FleetAggregate(
            fleet=name, time=NOW, stale_s=60.0, members=8,
            properties=[
                f.PropertyAggregate(
                    property="flow", unit="m3/h", count=7, completeness=0.875, mean=45.1, total=315.7,
                    uncertainty=sure, missing_members=[f.MissingMember(site="quarry", twin="P-301", why="offline")],
                    **part, **numbers),
                f.PropertyAggregate(
                    property="head", unit="m", count=8, completeness=1.0, mean=31.0, total=248.0, uncertainty=None,
                    missing_members=[], **{**part, "missing": {}, "outliers": 0}, **numbers),
            ],
        )  # fmt: skip

    @app.get(base + "/fleets/{name}/outliers")
    def outliers(t: str, name: str) -> f.OutlierList:
        one = f.OutlierView(
            site="harbour", twin="HX-7", property="flow", role="estimated", unit="m3/h", value=61.2, sigma=0.6,
            median=42.4, mad=2.1, scale=3.7, z=5.1, limit=3.9, direction="above", peers=6, why=OUTLIER,
        )  # fmt: skip
        return f.OutlierList(fleet=name, time=NOW, items=[one])

    @app.get(twin + "/properties/{prop}/explanation")
    def explanation(t: str, site: str, twin: str, prop: str) -> dict:
        seen = {"port": "speed", "signal": "pump-plc.speed", "value": 1481.2, "unit": "1/min", "quality": "good",
                "words": "good", "time": NOW, "age_s": 0.4, "block": f"{'9f' * 16}/TELEMETRY/12", "received": NOW,
                "committed": NOW}  # fmt: skip
        said = {"estimate": {**seen, "port": "", "value": 42.1, "unit": "m3/h"},
                "sigma": {**seen, "port": "", "value": 0.6, "unit": "m3/h"}}  # fmt: skip
        replay = {"verdict": "exact", "reason": "", "words": "computed again from history, every bit is proven"}
        return {
            "twin": twin, "property": prop, "unit": "m3/h", "time": NOW, "said": said,
            "inputs": [seen, {**seen, "port": "power", "signal": "pump-plc.power", "value": 5.4, "unit": "kW"}],
            "running": "pump@1.4.2", "model": {"signer": "ab" * 16}, "assigned": None, "checkpoint": NOW,
            "checkpoint_cause": "START", "replay": replay, "losses": [], "gateway": "gw-quay", "clock": "SYNCED",
            "clock_offset_s": 0.001,
        }  # fmt: skip

    operation = {"id": "7", "kind": "backtest", "state": "done", "progress": 1.0, "reason": "", "detail": "",
                 "hint": "", "cached": False}  # fmt: skip
    figures = {"rmse": 0.61, "mae": 0.48, "bias": 0.02, "nll": 0.93, "nis": 1.04, "coverage": [0.68, 0.95, 0.997],
               "white": True, "count": 3600}  # fmt: skip

    @app.post(twin + ":backtest", status_code=202)
    def backtest(t: str, site: str, twin: str) -> dict:
        return {**operation, "state": "queued", "progress": 0.0}

    @app.get(base + "/operations/{number}")
    def look(t: str, number: str) -> dict:
        def run(model: str, rmse: float) -> dict:
            outputs = {name: {**figures, "rmse": rmse} for name in ("flow", "head")}
            return {"model": model, "outputs": outputs, "drift_alarms": 0, "regime_coverage": 0.98}

        verdict = ["flow: pump@1.5.0 is better by 12 % in RMSE", "head: no difference that counts"]
        result = {"verdict": verdict, "candidate": run("pump@1.5.0", 0.54), "against": run("pump@1.4.2", 0.61)}
        return {**operation, "result": result}

    @app.get(base + "/operations/{number}/plot.svg")
    def plot(t: str, number: str) -> Response:
        body = (
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 200" width="720" height="200">'
            '<rect width="720" height="200" fill="#eee"/></svg>'
        )
        return Response(body, media_type="image/svg+xml")

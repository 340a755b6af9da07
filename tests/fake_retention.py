"""Retention of the small coordinator: policies under a tag, and a plan that counts a million samples for each."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from twincloud.api.conditional import condition_of
from twincloud.api.v1 import retention as r


def add_routes(app: FastAPI, base: str) -> None:
    """Adds the routes; policies live as long as the app."""
    held: list[list[r.PolicyView]] = [[]]

    def tag() -> str:
        return f'"{len(held)}"'

    @app.get(base + "/retention")
    def get(t: str, response: Response) -> r.RetentionView:
        response.headers["ETag"] = tag()
        return r.RetentionView(policies=held[-1], archiving=True)

    @app.put(base + "/retention")
    def put(t: str, request: Request, body: r.RetentionRequest) -> r.RetentionView:
        condition_of(request, required=True).check(tag(), "retention")
        held.append(body.policies)
        return r.RetentionView(policies=held[-1], archiving=True)

    @app.post(base + "/retention:plan")
    def plan(t: str, body: r.PlanRequest) -> r.RetentionPlanView:
        items = [
            r.GoingView(
                policy=one, signals=1, samples=1_000_000, bytes=1_500_000, archived_samples=0, buckets=0,
                from_time="2026-01-01T00:00:00.000000000Z", to_time=None,
            )
            for one in (held[-1] if body.policies is None else body.policies)
        ]  # fmt: skip
        return r.RetentionPlanView(archiving=True, items=items, archived_files=2, archived_bytes=77)

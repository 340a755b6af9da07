"""How long history is kept: the policies of a tenant as one document, and what they would let go of."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from twincloud.api.auth import Access, allow
from twincloud.api.conditional import condition_of, content_tag
from twincloud.api.times import to_text
from twincloud.api.v1.schemas import Shape
from twincloud.storage.records_retention import Going, RetentionPlan
from twincloud.twins.retention import DAYS_MAX, PATTERN_CHARS_MAX, POLICIES_MAX, Policy

router = APIRouter(prefix="/api/v1/tenants/{t}", tags=["retention"])

Reader = Annotated[Access, Depends(allow("retention.read"))]
Writer = Annotated[Access, Depends(allow("retention.write"))]


class PolicyView(Shape):
    """How many days samples of the signals that fit a pattern are kept, 0 for ever.

    `*` stands for any letters and `?` for one; the most specific pattern counts. `raw_days` count where there is no
    archive, `archive_days` where there is one; `buckets_days` those of the minutes made of samples.
    """

    pattern: str = Field(min_length=1, max_length=PATTERN_CHARS_MAX)
    raw_days: int = Field(default=0, ge=0, le=DAYS_MAX)
    buckets_days: int = Field(default=0, ge=0, le=DAYS_MAX)
    archive_days: int = Field(default=0, ge=0, le=DAYS_MAX)


class RetentionRequest(Shape):
    """All policies of the tenant; those that are not named are gone."""

    policies: list[PolicyView] = Field(max_length=POLICIES_MAX)


class RetentionView(Shape):
    """All policies of the tenant, the most specific first; signals that no pattern fits are kept for ever."""

    policies: list[PolicyView]
    archiving: bool = Field(description="whether old days are archived, so that `archive_days` count")


class GoingView(Shape):
    """What one policy lets go of now: of the database, of the archive, and the days they lie in."""

    policy: PolicyView
    signals: int
    samples: int
    bytes: int
    archived_samples: int
    buckets: int
    from_time: str | None
    to_time: str | None


class RetentionPlanView(Shape):
    """What policies would let go of now; an archived file goes when all of it does."""

    archiving: bool
    items: list[GoingView]
    archived_files: int
    archived_bytes: int


class PlanRequest(Shape):
    """Policies to try; those of now when there are none."""

    policies: list[PolicyView] | None = Field(default=None, max_length=POLICIES_MAX)


@router.get("/retention")
async def get_retention(request: Request, response: Response, access: Reader) -> RetentionView:
    """The policies of the tenant; the ETag is that of their content."""
    state = request.app.state
    policies = await state.threads.run(state.store.retention, access.tenant)
    response.headers["ETag"] = _tag(policies)
    return _view(policies, archiving=state.settings.archive_days > 0)


@router.put("/retention")
async def put_retention(
    request: Request, response: Response, access: Writer, wanted: RetentionRequest
) -> RetentionView:
    """Replaces the policies; what they let go of is deleted in the background and does not come back."""
    state = request.app.state
    condition = condition_of(request, required=True)
    policies = await state.threads.run(
        state.store.set_retention, access.tenant, _policies(wanted.policies), by=access.principal.name,
        now_ns=state.clock.wall_ns(), check=lambda before: condition.check(_tag(before), "retention"),
    )  # fmt: skip
    response.headers["ETag"] = _tag(policies)
    return _view(policies, archiving=state.settings.archive_days > 0)


@router.post("/retention:plan")
async def plan_retention(request: Request, access: Reader, wanted: PlanRequest) -> RetentionPlanView:
    """What policies would let go of now; nothing is changed. It counts rows, and may take a while on a large store."""
    state = request.app.state
    plan: RetentionPlan = await state.threads.run(
        state.store.plan_retention, access.tenant, None if wanted.policies is None else _policies(wanted.policies),
        state.clock.wall_ns(), archiving=state.settings.archive_days > 0,
    )  # fmt: skip
    return RetentionPlanView(
        archiving=plan.archived,
        items=[_going(one) for one in plan.going],
        archived_files=plan.files,
        archived_bytes=plan.file_bytes,
    )


def _policies(views: list[PolicyView]) -> list[Policy]:
    return [Policy(view.pattern, view.raw_days, view.buckets_days, view.archive_days) for view in views]


def _policy_view(one: Policy) -> PolicyView:
    return PolicyView(
        pattern=one.pattern, raw_days=one.raw_days, buckets_days=one.buckets_days, archive_days=one.archive_days
    )


def _view(policies: tuple[Policy, ...], *, archiving: bool) -> RetentionView:
    return RetentionView(policies=[_policy_view(one) for one in policies], archiving=archiving)


def _tag(policies: tuple[Policy, ...]) -> str:
    return content_tag(repr([(p.pattern, p.raw_days, p.buckets_days, p.archive_days) for p in policies]).encode())


def _going(one: Going) -> GoingView:
    return GoingView(
        policy=_policy_view(one.policy),
        signals=one.signals,
        samples=one.samples,
        bytes=one.bytes,
        archived_samples=one.archived,
        buckets=one.buckets,
        from_time=to_text(one.from_ns) if one.to_ns else None,
        to_time=to_text(one.to_ns) if one.to_ns else None,
    )

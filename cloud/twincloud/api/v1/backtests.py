"""Back-tests: what another model version would have said of a twin's past."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response, status
from pydantic import Field

from twincloud.api.auth import Access, allow
from twincloud.api.times import parse
from twincloud.api.v1.operations import Number, OperationView, Reader, accepted
from twincloud.api.v1.paging import Site, TwinName
from twincloud.api.v1.schemas import Shape
from twincloud.replay.backtest import KIND, Asked, question
from twincloud.replay.drawing import draw
from twincloud.storage.contract import TwinKey
from twinmodel.clock import SECOND_NS
from twinmodel.errors import MissingError

router = APIRouter(prefix="/api/v1/tenants/{t}", tags=["back-tests"])

Tester = Annotated[Access, Depends(allow("twins.backtest"))]
_REFERENCE = r"^[^@\s]{1,128}@[^@\s]{1,64}$"


class BacktestRequest(Shape):
    """Which model, on which period, against which other one."""

    model: str = Field(pattern=_REFERENCE, description="name@version to be tested")
    against: str = Field("", pattern=f"^$|{_REFERENCE}", description="name@version; what runs for the twin now")
    from_time: str = Field(max_length=64, description="RFC 3339")
    to_time: str = Field(max_length=64, description="RFC 3339, not included")
    warm_up_s: float | None = Field(None, ge=0, le=7 * 86_400, description="as long as the models need to settle")


@router.post("/sites/{s}/twins/{twin}:backtest", status_code=status.HTTP_202_ACCEPTED)
async def backtest_twin(
    request: Request, response: Response, access: Tester, s: Site, twin: TwinName, wanted: BacktestRequest
) -> OperationView:
    """Tests a model version on the twin's own past; the twin itself is not touched. The operation has the answer."""
    state = request.app.state
    asked = Asked(
        TwinKey(access.tenant, s, twin),
        wanted.model,
        wanted.against,
        parse(wanted.from_time, "from_time"),
        parse(wanted.to_time, "to_time"),
        None if wanted.warm_up_s is None else round(wanted.warm_up_s * SECOND_NS),
    )
    put = await state.threads.run(question, state.store, asked)
    now_ns = state.clock.wall_ns()
    operation = await state.threads.run(state.store.ask, access.tenant, put, by=access.principal.name, now_ns=now_ns)
    return accepted(request, response, operation)


@router.get(
    "/operations/{operation}/plot.svg", response_class=Response, responses={200: {"content": {"image/svg+xml": {}}}}
)
async def get_plot(request: Request, access: Reader, operation: Number) -> Response:
    """The curves of a back-test that is done, as SVG."""
    state = request.app.state
    found = await state.threads.run(state.store.operation, access.tenant, operation)
    if found.kind != KIND or found.result is None:
        hint = "wait for a back-test to be done"
        raise MissingError("NOT_FOUND", f"operation {operation} is {found.kind}, {found.state}: no plot", hint=hint)
    headers = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return Response(await state.threads.run(draw, found.result), media_type="image/svg+xml", headers=headers)

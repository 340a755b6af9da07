"""Who asks: what a token or a signed-in browser may do."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request

from twincloud.api.auth import identify
from twincloud.api.v1.schemas import Shape

router = APIRouter(prefix="/api/v1/session", tags=["session"])


class SessionView(Shape):
    """Name, tenant (`*` for all) and role of the token."""

    name: str
    tenant: str
    role: Literal["viewer", "operator", "engineer", "admin"]


@router.get("")
async def get_session(request: Request) -> SessionView:
    """Who asks."""
    principal = await identify(request)
    return SessionView.model_validate({"name": principal.name, "tenant": principal.tenant, "role": principal.role})

"""Configurations of gateways: one that is sent, and what they told of those that were."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgpack
from fastapi import APIRouter, Depends, Request, status
from pydantic import Field

from twincloud.api.auth import Access, allow
from twincloud.api.times import to_text, to_text_or_none
from twincloud.api.v1.alarm_shapes import COMMENT
from twincloud.api.v1.paging import GatewayName, Site
from twincloud.api.v1.schemas import DirectiveView, Shape
from twincloud.api.views import directive_view
from twincloud.storage.contract import Directive, GatewayKey
from twincloud.storage.mailbox import CONFIG
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConfigError, InputError
from twinmodel.profile.document import parse_document
from twinmodel.profile.shape import check_sort

TARGET = "@config"
TOLD_MAX = 50
NAMED = "site.yaml: "
_HEX = r"^([0-9a-f]{64})?$"

router = APIRouter(prefix="/api/v1/tenants/{t}", tags=["gateways"])

Reader = Annotated[Access, Depends(allow("configurations.read"))]
Configurer = Annotated[Access, Depends(allow("gateways.configure"))]


class ConfigureRequest(Shape):
    """A configuration for a gateway: it is checked there, tried for a while, and taken back if it does not hold."""

    content: str = Field(min_length=1, max_length=200_000, description="text of site.yaml")
    profiles: dict[str, str] = Field(
        default_factory=dict, max_length=100, description="`vendor/device/version` to text; they go before those there"
    )
    why: str = Field(min_length=1, max_length=500, pattern=COMMENT)
    base: str = Field(default="", pattern=_HEX, description="digest of the configuration it was written against")
    deadline_s: int = Field(default=86_400, ge=60, le=30 * 86_400, description="after which it must not begin any more")


class ConfigurationEntry(Shape):
    """One configuration that was sent; `digest` is what was in force on the gateway when it ended."""

    directive: str
    sent: str
    sent_by: str
    why: str
    base: str
    outcome: str
    reason: str
    detail: str
    ended: str | None
    digest: str


class ConfigurationView(Shape):
    """What a gateway told of its configuration.

    `digest` is what was in force when the newest one ended; `content` is its text where it was sent from here, and
    null where it was written on site or nothing was sent yet.
    """

    digest: str
    content: str | None
    profiles: dict[str, str]
    history: list[ConfigurationEntry]


@router.get("/sites/{s}/gateways/{g}/configuration")
async def get_configuration(request: Request, access: Reader, s: Site, g: GatewayName) -> ConfigurationView:
    """The configuration of a gateway as far as it has told, and those it was sent, newest first."""
    state = request.app.state
    sent = await state.threads.run(state.store.configurations, GatewayKey(access.tenant, s, g), TOLD_MAX)
    digest = next((one.digest for one in sent if one.outcome and one.digest), "")
    runs = next((one for one in sent if one.outcome == "APPLIED" and one.digest == digest), None)
    carried: dict[str, Any] = {}
    if runs is not None:
        whole = await state.threads.run(state.store.directive, runs.gateway, runs.id)
        carried = msgpack.unpackb(whole.content)
    return ConfigurationView(
        digest=digest,
        content=carried.get("site"),
        profiles=carried.get("profiles", {}),
        history=[_entry(one) for one in sent],
    )


@router.put("/sites/{s}/gateways/{g}/configuration", status_code=status.HTTP_202_ACCEPTED)
async def configure_gateway(
    request: Request, access: Configurer, s: Site, g: GatewayName, wanted: ConfigureRequest
) -> DirectiveView:
    """Sends a gateway another configuration; the directive tells how that went."""
    state = request.app.state
    await state.threads.run(_check, wanted)  # parsing takes its time, and gateways wait for the event loop
    by, now_ns = access.principal.name, state.clock.wall_ns()
    # What lists tell comes first: they read the beginning alone.
    carried = {"by": by, "why": wanted.why, "base": wanted.base, "site": wanted.content, "profiles": wanted.profiles}
    key = GatewayKey(access.tenant, s, g)

    def send() -> Directive:
        opened: Directive = state.store.open_directive(
            key,
            CONFIG,
            TARGET,
            name=f"{NAMED}{wanted.why}"[:200],
            content=msgpack.packb(carried),
            by=by,
            now_ns=now_ns,
            deadline_ns=now_ns + wanted.deadline_s * SECOND_NS,
        )
        return opened

    directive = await state.threads.run(send)
    state.bus.notify()
    await state.threads.run(state.on_directive, key)
    return directive_view(directive)


def _check(wanted: ConfigureRequest) -> None:
    """What cannot even be parsed is refused here; all else only the gateway can tell. Raises InputError."""
    checks: dict[str, Callable[[], object]] = {"content": lambda: parse_document(wanted.content, Path("site.yaml"))}
    checks |= {f"profiles.{name}": partial(check_sort, text, name) for name, text in wanted.profiles.items()}
    for field, check in checks.items():
        try:
            check()
        except ConfigError as wrong:
            raise InputError("REQUEST_INVALID", f"{field}: {wrong}", hint=wrong.hint, field=field) from None


def _begun(content: bytes) -> dict[str, str]:
    """The texts with which a content begins, as far as they are there."""
    reader, found = msgpack.Unpacker(), dict[str, str]()
    reader.feed(content)
    try:
        for _ in range(reader.read_map_header()):
            name = reader.unpack()
            found[name] = reader.unpack()
    except msgpack.OutOfData:
        pass  # cut off, in the site.yaml
    return found


def _entry(one: Directive) -> ConfigurationEntry:
    carried = _begun(one.content)
    return ConfigurationEntry(
        directive=one.id,
        sent=to_text(one.created_ns),
        sent_by=one.created_by,
        why=carried.get("why") or one.name.removeprefix(NAMED),
        base=carried.get("base", ""),
        outcome=one.outcome,
        reason=one.reason,
        detail=one.detail,
        ended=to_text_or_none(one.ended_ns),
        digest=one.digest if one.outcome else "",
    )

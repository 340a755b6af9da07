"""Shapes of the public REST API, version 1; the OpenAPI document is made from them.

Times are RFC 3339 text in UTC with nine digits. Lists are `{items, next_page_token}`. Errors are problem documents
(RFC 9457) with `reason` and `hint`.

    GET    /healthz  /readyz  /metrics  /openapi.json
    GET    /api/v1/tenants/{t}/fleet                                        FleetSummary
    GET    /api/v1/tenants/{t}/sites                                        SiteList
    GET    /api/v1/tenants/{t}/gateways?site=&page_size=&page_token=        GatewayList
    GET    /api/v1/tenants/{t}/sites/{s}/gateways/{g}                       GatewayView
    GET    /api/v1/tenants/{t}/sites/{s}/gateways/{g}/losses                LossList
    GET    /api/v1/tenants/{t}/sites/{s}/gateways/{g}/samples?after=        SampleList (every stored sample, for audits)
    GET    /api/v1/tenants/{t}/sites/{s}/gateways/{g}/wishes                WishList
    POST   /api/v1/tenants/{t}/sites/{s}/gateways/{g}:coarsen               WishRequest -> WishView
    PUT    /api/v1/tenants/{t}/sites/{s}/gateways/{g}/configuration         ConfigureRequest -> DirectiveView
    POST   /api/v1/tenants/{t}/gateways:invite                              InviteRequest -> InviteView
    GET    /api/v1/tenants/{t}/twins?site=&page_size=&page_token=           TwinList
    GET    /api/v1/tenants/{t}/sites/{s}/twins/{twin}                       TwinView, ETag = revision
    GET    /api/v1/tenants/{t}/sites/{s}/twins/{twin}/history?property=&roles=&from=&to=&points=   HistoryView
    PUT    /api/v1/tenants/{t}/sites/{s}/twins/{twin}/model                 AssignRequest -> DirectiveView
    GET    /api/v1/tenants/{t}/sites/{s}/twins/{twin}/record                TwinRecordView; see twin_shapes for the rest
    GET    /api/v1/tenants/{t}/models?page_size=&page_token=                ModelList
    POST   /api/v1/tenants/{t}/models                                       bytes of a .twin -> ModelView
    GET    /api/v1/tenants/{t}/models/{name}/versions/{version}             ModelView
    GET    /api/v1/tenants/{t}/artifacts/{digest}                           bytes of a .twin
    GET    /api/v1/tenants/{t}/signers                                      SignerList
    POST   /api/v1/tenants/{t}/signers                                      SignerRequest -> SignerView
    GET    /api/v1/tenants/{t}/directives?target=                           DirectiveList
    POST   /api/v1/tenants/{t}/sites/{s}/twins/{twin}/commands              CommandRequest -> CommandView; see commands
    GET    /api/v1/tenants/{t}/deadLetters                                  DeadLetterList
    GET    /api/v1/tenants/{t}/events?site=&twin=                           SSE, resumes by Last-Event-ID
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
Health = Literal["ok", "warn", "bad", "offline"]


class Shape(BaseModel):
    """Base of all shapes: what a request may hold is exact."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """RFC 9457 problem document."""

    type: str
    title: str
    status: int
    detail: str
    reason: str
    hint: str
    instance: str = ""


class ValueView(Shape):
    """The value envelope."""

    value: float | int | bool | str | None
    unit: str
    sigma: float | None = None
    quality: str
    t_event: str
    t_received: str
    t_committed: str
    origin: Literal["measured", "estimated", "predicted", "substituted", "commanded"]
    target_time: str | None = None
    model: str = ""
    model_id: str = ""
    block: str = ""
    by: str = ""


class PropertyView(Shape):
    """One property of a twin.

    `replaced` is the measurement that `reported` stands in for while it is substituted; `delta` is reported minus
    desired, `differs` whether that is more than the definition tolerates.
    """

    name: str
    unit: str
    signal: str
    reported: ValueView | None = None
    estimated: ValueView | None = None
    predicted: ValueView | None = None
    replaced: ValueView | None = None
    innovation: float | None = None
    drift: float | None = None
    desired: ValueView | None = None
    delta: float | None = None
    differs: bool | None = None


class ModelStateView(Shape):
    """What should run and what does; `isolation` is the cause the edge has found for a drift, "" for none."""

    desired: str
    running: str
    running_digest: str
    tier: str
    directive: str = ""
    outcome: str = ""
    reason: str = ""
    isolation: str = ""


class AlarmCounts(Shape):
    """Alarms in numbers, those that are hidden aside; `by_priority` counts the unacknowledged ones."""

    unacked: int = 0
    active: int = 0
    highest: Literal["", "low", "medium", "high", "urgent"] = ""
    by_priority: dict[str, int] = Field(default_factory=dict)


class TwinView(Shape):
    """One twin; `why` says in one sentence, with the number and the rule, why it is not ok."""

    tenant: str
    site: str
    twin: str
    gateway: str
    definition: str
    health: Health
    why: str
    drifting: bool
    freshness_s: float | None
    revision: int
    updated: str
    model: ModelStateView
    properties: list[PropertyView]
    state: Literal["draft", "commissioned", "active", "suspended", "retired"] = "active"
    run: Literal["edge", "cloud"] = "edge"
    tags: dict[str, str] = Field(default_factory=dict)
    record_revision: int = 0
    alarms: AlarmCounts = Field(default_factory=AlarmCounts)
    expired: bool = Field(
        default=False, description="with `as_of`: whether retention has let go of what some values may have been"
    )
    kept_from: str | None = Field(default=None, description="then from when on all of its history is kept")


class TwinList(Shape):
    """Page of twins."""

    items: list[TwinView]
    next_page_token: str = ""


class GatewayView(Shape):
    """One gateway."""

    tenant: str
    site: str
    gateway: str
    state: str
    connected: bool
    health: Health
    why: str
    boot: str
    boot_counter: int
    last_seen: str | None
    clock: str
    clock_offset_s: float | None = None
    agent_version: str
    backlog_bytes: int
    backlog_samples: int
    oldest: str | None
    samples: int
    duplicates_refused: int
    certificate_serial: str
    certificate_until: str | None
    twins: int


class GatewayList(Shape):
    """Page of gateways."""

    items: list[GatewayView]
    next_page_token: str = ""


class SiteHealth(Shape):
    """Health of one site by numbers."""

    site: str
    ok: int
    warn: int
    bad: int
    offline: int
    gateways: int
    gateways_connected: int


class SiteList(Shape):
    """All sites of the tenant."""

    items: list[SiteHealth]
    next_page_token: str = ""


class Attention(Shape):
    """One line of "needs attention", worst first."""

    severity: Health
    kind: Literal["twin", "gateway", "alarm"]
    site: str
    name: str
    why: str


class FleetSummary(Shape):
    """The FLEET page in numbers; freshness and lag in seconds, None without data."""

    tenant: str
    ok: int
    warn: int
    bad: int
    offline: int
    gateways: int
    gateways_connected: int
    freshness_p50_s: float | None
    freshness_p95_s: float | None
    lag_p95_s: float | None
    backlog_bytes: int
    backlog_samples: int
    samples: int
    sites: list[SiteHealth]
    versions: dict[str, int] = Field(description="running model `name@version` -> number of twins")
    attention: list[Attention]
    alarms: AlarmCounts = Field(default_factory=AlarmCounts)
    last_event: int
    server_time: str


class BucketsView(Shape):
    """What else is known of each bucket of a downsampled series; null where no sample is usable."""

    low: list[float | None]
    high: list[float | None]
    last: list[float | None]
    count: list[int]
    usable: list[int]
    bad: list[int]


class SeriesView(Shape):
    """Columns of one role: event times in ns, values (null where nothing was read), quality codes."""

    t_ns: list[int]
    value: list[float | int | bool | str | None]
    quality: list[int]
    truncated: bool = False
    buckets: BucketsView | None = None
    expired: bool = Field(default=False, description="whether retention has let go of the beginning of the span")
    kept_from: str | None = Field(default=None, description="then from when on there is all of it")


class HistoryView(Shape):
    """History of one property by role."""

    property: str
    unit: str
    from_time: str
    to_time: str
    series: dict[str, SeriesView]
    resolution: str = "raw"
    expired: bool = Field(default=False, description="whether any of the series is")


class InviteRequest(Shape):
    """Whom to invite."""

    site: str = Field(pattern=NAME)
    gateway: str = Field(pattern=NAME)
    ttl_s: int = Field(86_400, ge=60, le=30 * 86_400)


class InviteView(Shape):
    """The line to type on the gateway; the token is shown this once."""

    site: str
    gateway: str
    url: str
    token: str
    ca_sha256: str
    expires: str
    join: str


class AssignRequest(Shape):
    """Model to run for a twin, `name@version`."""

    model: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}@[0-9A-Za-z.+-]{1,40}$")
    deadline_s: int = Field(3_600, ge=10, le=30 * 86_400)


class DirectiveView(Shape):
    """One directive and how it ended; `outcome` is empty while it is open, `deadline` null where there is none."""

    id: str
    site: str
    gateway: str
    kind: str
    target: str
    version: int
    name: str
    digest: str
    created: str
    created_by: str
    deadline: str | None
    outcome: str
    reason: str
    detail: str
    ended: str | None


class DirectiveList(Shape):
    """Directives, newest first."""

    items: list[DirectiveView]
    next_page_token: str = ""


class ModelView(Shape):
    """One model version."""

    name: str
    version: str
    digest: str
    model_id: str
    signer: str
    size: int
    created: str
    inputs: dict[str, str]
    outputs: dict[str, str]


class ModelList(Shape):
    """Page of model versions."""

    items: list[ModelView]
    next_page_token: str = ""


class SignerRequest(Shape):
    """A public key whose models the tenant's gateways may run."""

    name: str = Field(pattern=NAME)
    public_key_pem: str = Field(max_length=4_096)


class SignerView(Shape):
    """A trusted key."""

    key_id: str
    public_key_pem: str


class SignerList(Shape):
    """All trusted keys."""

    items: list[SignerView]
    next_page_token: str = ""


class DeadLetterView(Shape):
    """A block that could not be read."""

    id: int
    site: str
    gateway: str
    boot: str
    stream: str
    first_seq: int
    last_seq: int
    reason: str
    received: str
    size: int


class RequeueView(Shape):
    """A dead letter that could be read after all, and how many samples it brought."""

    id: int
    samples: int


class DeadLetterList(Shape):
    """Dead letters, newest first."""

    items: list[DeadLetterView]
    next_page_token: str = ""

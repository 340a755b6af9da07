"""Shapes of alarms.

GET    /api/v1/tenants/{t}/alarms?state=&priority=&site=&twin=&standing=&filter=   AlarmList; more in the document
GET    /api/v1/tenants/{t}/alarms/{alarm}                               AlarmView
GET    /api/v1/tenants/{t}/alarms/{alarm}/journal?from=&to=&limit=      AlarmJournal
GET    /api/v1/tenants/{t}/alarms:summary                               AlarmCounts
POST   /api/v1/tenants/{t}/alarms/{alarm}:ack                           AckRequest -> AlarmView
POST   /api/v1/tenants/{t}/alarms/{alarm}:shelve                        ShelveRequest -> AlarmView
POST   /api/v1/tenants/{t}/alarms/{alarm}:unshelve                      CommentRequest -> AlarmView
POST   /api/v1/tenants/{t}/alarms/{alarm}:comment                       CommentRequest -> AlarmView
POST   /api/v1/tenants/{t}/alarms/{alarm}:outOfService, :inService      CommentRequest -> AlarmView
POST   /api/v1/tenants/{t}/alarms:ack                                   AckAllRequest -> AckAllView
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from twincloud.api.v1.schemas import Problem, Shape
from twinmodel.alarms.records import TEXT_CHARS_MAX

AlarmState = Literal["NORM", "UNACK", "ACKED", "RTNUN", "SHELVED", "SUPPRESSED", "OUT_OF_SERVICE"]
AlarmPriority = Literal["low", "medium", "high", "urgent"]
OCCURRENCE_MAX = 2**63 - 1
SHELVED_S_MAX = 30 * 86_400
TOGETHER_MAX = 500
ID = r"^[0-9a-f]{24}$"
# A comment may end up on a terminal and in a database: no control characters.
COMMENT = r"^[^\x00-\x1f\x7f-\x9f]*$"


class AlarmAction(Shape):
    """The newest thing that was asked of an alarm; `outcome` is empty while the gateway has not answered."""

    do: str
    by: str
    at: str
    directive: str
    outcome: str
    reason: str
    detail: str


class AlarmView(Shape):
    """One alarm as its gateway told of it last.

    `as_of` is null while the gateway is connected, else when it was last heard: what came after that nobody here
    knows. `pending` says that `action` waits for the gateway. `count` is how many occurrences, or consequences, this
    line stands for; `cause` the alarm or device it is a consequence of.
    """

    id: str
    tenant: str
    site: str
    gateway: str
    alarm: str
    rule: str
    source: str
    twins: list[str]
    state: AlarmState
    active: bool
    acked: bool
    severity: int
    priority: AlarmPriority
    text: str
    value: float | bool | str | None
    limit: float | None
    unit: str
    quality: str
    cause: str
    count: int
    by: str
    comment: str
    occurrence: int
    since: str
    changed: str
    committed: str
    until: str | None
    as_of: str | None
    pending: bool
    action: AlarmAction | None


class AlarmList(Shape):
    """Page of alarms, by priority, the newest change first."""

    items: list[AlarmView]
    next_page_token: str = ""


class AlarmStepView(Shape):
    """One step of an alarm; `time` is the gateway's."""

    time: str
    received: str
    committed: str
    state: AlarmState
    active: bool
    acked: bool
    priority: AlarmPriority
    severity: int
    text: str
    value: float | bool | str | None
    limit: float | None
    unit: str
    quality: str
    cause: str
    count: int
    by: str
    comment: str
    occurrence: int
    until: str | None


class AlarmJournal(Shape):
    """Steps of an alarm, the newest first; `truncated` says that the span holds older ones."""

    items: list[AlarmStepView]
    truncated: bool


class CommentRequest(Shape):
    """What somebody has to say."""

    comment: str = Field("", max_length=TEXT_CHARS_MAX, pattern=COMMENT)


class AckRequest(CommentRequest):
    """Acknowledges an occurrence; without one, the present one."""

    occurrence: int | None = Field(None, ge=0, le=OCCURRENCE_MAX, description="as it was seen: a newer one is refused")


class ShelveRequest(CommentRequest):
    """Hides an alarm for a time, counted from when its gateway hears of it, at most as long as its site allows."""

    for_s: int = Field(ge=1, le=SHELVED_S_MAX)
    occurrence: int | None = Field(None, ge=0, le=OCCURRENCE_MAX)


class AckOne(Shape):
    """One of several alarms to acknowledge."""

    alarm: str = Field(pattern=ID)
    occurrence: int | None = Field(None, ge=0, le=OCCURRENCE_MAX)


class AckAllRequest(CommentRequest):
    """Acknowledges several alarms."""

    items: list[AckOne] = Field(min_length=1, max_length=TOGETHER_MAX)


class AckedOne(Shape):
    """What became of one of them: the alarm, or why not."""

    id: str
    alarm: AlarmView | None = None
    problem: Problem | None = None


class AckAllView(Shape):
    """Answers in the order of the request."""

    items: list[AckedOne]

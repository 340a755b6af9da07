"""Acknowledges a condition of an OPC UA server (Part 9, 5.7.3), on the session that hears of it.

The server is told the id of the event whose state a person has seen; what has changed since then it refuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import asyncua.ua
from asyncua.client.client import Client
from asyncua.ua.uaerrors import UaStatusCodeError

from twinedge.drivers.opcua_write import UNKNOWN
from twinmodel.alarms.records import printable
from twinmodel.errors import ConflictError, TwinError, UnreachableError

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

COMMENT_CHARS_MAX: Final = 200
"""What is told of a comment; servers refuse longer ones than they keep."""
TAKEN, BEFORE = "acknowledged", "acknowledged before"


@dataclass(frozen=True, slots=True)
class Unseen:
    """A state of a condition that the server wants somebody to see.

    Attributes:
        condition: its node id.
        event: id of the newest event that told of it.
    """

    condition: Any
    event: bytes


async def acknowledge(client: Client, device: str, unseen: Unseen, comment: str) -> str:
    """Tells the server that somebody has seen it.

    Returns:
        `TAKEN`, or `BEFORE` where somebody else was first.

    Raises:
        ConflictError: ALARM_CHANGED, the server knows the event no more; COMMAND_REFUSED_BY_DEVICE; both with `code`.
        UnreachableError: COMMAND_UNANSWERED, nobody knows.
    """
    text = printable(comment, COMMENT_CHARS_MAX)
    request = ua.CallMethodRequest(
        ObjectId=unseen.condition,
        MethodId=ua.NodeId(ua.ObjectIds.AcknowledgeableConditionType_Acknowledge),
        InputArguments=[
            ua.Variant(unseen.event, ua.VariantType.ByteString),
            ua.Variant(ua.LocalizedText(text), ua.VariantType.LocalizedText),
        ],
    )
    try:
        (result,) = await client.uaclient.session.call([request])
    except UaStatusCodeError as fault:
        raise _refused(device, ua.StatusCode(fault.code)) from fault
    except Exception as silent:  # asyncua raises bare Exception and AssertionError among others
        text = f"no answer from the server: {type(silent).__name__} {silent}".strip()
        raise UnreachableError("COMMAND_UNANSWERED", text, device=device) from silent
    if result.StatusCode.is_good():
        return TAKEN
    if result.StatusCode.name == "BadConditionBranchAlreadyAcked":
        return BEFORE
    raise _refused(device, result.StatusCode)


def _refused(device: str, status: Any) -> TwinError:
    name = status.name
    if name in UNKNOWN:
        return UnreachableError("COMMAND_UNANSWERED", f"the server says {name}", code=name, device=device)
    if name == "BadEventIdUnknown":
        text = f"the server knows the event no more that told of it ({name})"
        hint = "look at the alarm again, then acknowledge it again"
        return ConflictError("ALARM_CHANGED", text, hint=hint, code=name, device=device)
    text = f"the server refuses it: {name} (0x{int(status.value):08X})"
    hint = "see what the server lets the user of this device acknowledge"
    return ConflictError("COMMAND_REFUSED_BY_DEVICE", text, hint=hint, code=name, device=device)

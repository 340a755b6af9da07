"""Asks a running agent over the socket in its state directory, as commands of its machine do."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinmodel.errors import REASONS, ConflictError, TwinError, UnreachableError

SOCKET = "control.sock"
TIMEOUT_S = 60.0
ANSWER_MAX_BYTES = 1 << 20


def ask_agent(state: Path, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """What the agent of a state directory answers.

    Raises:
        TwinError: with the reason the agent gave; AGENT_NOT_RUNNING when nobody answers.
    """
    try:
        folder = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as channel:
                channel.settimeout(TIMEOUT_S)
                channel.connect(f"/proc/self/fd/{folder}/{SOCKET}")  # paths of sockets have 108 bytes at most
                channel.sendall(json.dumps({"ask": name, "body": body}).encode() + b"\n")
                with channel.makefile("rb") as lines:
                    told = json.loads(lines.readline(ANSWER_MAX_BYTES) or b"{}")
        finally:
            os.close(folder)
    except (OSError, ValueError) as silent:
        raise UnreachableError("AGENT_NOT_RUNNING", f"no agent answers on {state}: {silent}") from silent
    if "error" in told:
        error = told["error"]
        raise TwinError(
            error["reason"] if error["reason"] in REASONS else "INTERNAL", error["message"], hint=error["hint"]
        )
    answer: dict[str, Any] = told["answer"]
    return answer


def reload_agent(state: Path, why: str) -> dict[str, Any]:
    """Has an agent run its site.yaml as it is now; returns what changed.

    Raises:
        TwinError: when all of it is refused, or the first part that is.
    """
    answer = ask_agent(state, "config.reload", {"who": "scenario", "why": why})
    for fault in answer["faults"]:
        reason = fault.get("reason", "VALUE_INVALID")
        raise ConflictError(reason if reason in REASONS else "VALUE_INVALID", str(fault.get("message", fault)))
    return answer

"""The other end of `Task.compute`: a loop that answers messages, for the main function of a child process."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

import msgpack

from twincloud.operations.frames import read_frame, write_frame
from twinmodel.errors import TwinError

NICE = 10
"""People who ask go before those who wait for sums."""


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answers each message of stdin on stdout until it is closed, or the message said `end`, or an answer raised.

    Args:
        answer: message -> answer; a TwinError it raises is told to the other side.
    """
    with contextlib.suppress(OSError):
        os.nice(NICE)
    pipe = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever prints must not disturb the talk.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    while (raw := read_frame(sys.stdin.buffer)) is not None:
        message = msgpack.unpackb(raw)
        try:
            said = answer(message)
        except TwinError as error:
            said = {"failed": {"reason": error.reason, "detail": error.message, "hint": error.hint}}
        write_frame(pipe, msgpack.packb(said, use_bin_type=True))
        if message.get("end") or "failed" in said:
            return

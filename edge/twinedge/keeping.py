"""Keeps what speaks to the outside going: a defect ends one attempt of it, never the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)

RESTART_S = 5.0


async def keep(name: str, run: Callable[[], Coroutine[Any, Any, None]], wait_s: float | None = None) -> None:
    """Runs something for ever: not even a defect in it may stop the others.

    Args:
        name: as the log says it.
        run: one attempt, which may end or fail.
        wait_s: between attempts, `RESTART_S` when None.
    """
    while True:
        pause_s = RESTART_S if wait_s is None else wait_s
        try:
            await run()
        except Exception:
            log.exception("stage failed, it starts again", stage=name, wait_s=pause_s)
        await asyncio.sleep(pause_s)

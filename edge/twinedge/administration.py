"""Who changes the configuration: SIGHUP, a command on this machine, or the coordinator; one way for all of them.

SIGHUP, `config reload`  ─▶ site.yaml as it lies there ─┐
`config apply`           ─▶ text                       ─┼─▶ Reload ─▶ history
`config rollback`        ─▶ text of the history        ─┘
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

import structlog

from twinedge.config.source import Source
from twinedge.configuration import Configuration
from twinedge.control import ControlServer
from twinedge.reload import Reload
from twinmodel.clock import Clock
from twinmodel.errors import InputError, TwinError

log = structlog.get_logger(__name__)

Body = Mapping[str, Any]
TEXT_MAX = 500
KEEP_AGAIN_S = 30.0


class Administration:
    """Takes what is asked of the configuration; all calls come from the event loop.

    Args:
        configuration: what runs.
        reload: brings another one about.
        clock: times of records.
        hangup: set when site.yaml is to be read again.
    """

    def __init__(self, configuration: Configuration, reload: Reload, clock: Clock, *, hangup: asyncio.Event) -> None:
        self._configuration = configuration
        self._reload = reload
        self._clock = clock
        self._hangup = hangup

    def serve(self, control: ControlServer) -> None:
        """Answers `config.reload`, `config.apply`, `config.rollback`, `config.show` and `config.history`."""
        control.on("config.reload", self.on_reload)
        control.on("config.apply", self.on_apply)
        control.on("config.rollback", self.on_rollback)
        control.on("config.show", self.on_show)
        control.on("config.history", self.on_history)

    async def run(self) -> NoReturn:
        """Reads site.yaml again at each hangup, and keeps what a full disk refused, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(KEEP_AGAIN_S):
                    await self._hangup.wait()
            except TimeoutError:
                await self._reload.keep_again()
                continue
            self._hangup.clear()
            try:
                await self.on_reload({"who": "agent", "why": "SIGHUP"})
            except TwinError as error:
                log.error("configuration refused, nothing has changed", reason=error.reason, detail=str(error))  # noqa: TRY400 - it says where and why

    async def on_reload(self, body: Body) -> dict[str, Any]:
        """Runs site.yaml as it is now: `{who, why}`."""
        configuration = self._configuration
        source = await asyncio.to_thread(Source.of, configuration.path)
        note = configuration.note("file", *_said(body))
        return (await self._reload.apply(source, note)).document()

    async def on_apply(self, body: Body) -> dict[str, Any]:
        """Runs the site.yaml that comes with the question: `{text, file, who, why}`; the file itself is not written.

        `file` is what errors call the text.
        """
        text = body.get("text")
        if not isinstance(text, str):
            raise InputError("REQUEST_INVALID", "no `text` of a site.yaml")
        note = self._configuration.note("control", *_said(body))
        file = body.get("file")
        named = Path(file[:TEXT_MAX]) if isinstance(file, str) and file else None
        return (await self._reload.apply(Source(text, self._configuration.path, named=named), note)).document()

    async def on_rollback(self, body: Body) -> dict[str, Any]:
        """Runs a configuration of the history, with the profiles it had: `{number, who, why}`."""
        history, number = self._configuration.history, body.get("number")
        if not isinstance(number, int):
            raise InputError("REQUEST_INVALID", "no `number` of a configuration")
        record = await asyncio.to_thread(history.get, number)
        source = await asyncio.to_thread(history.source, record)
        note = replace(self._configuration.note("rollback", *_said(body)), detail=f"back to {number}")
        return (await self._reload.apply(source, note)).document()

    async def on_show(self, _body: Body) -> dict[str, Any]:
        """What runs, and whether site.yaml says the same."""
        file_digest = await asyncio.to_thread(self._configuration.file_digest)
        status = self._configuration.status()
        path = str(self._configuration.path)
        return {**status, "path": path, "file_digest": file_digest, "file_differs": file_digest != status["digest"]}

    async def on_history(self, _body: Body) -> dict[str, Any]:
        """What was in force, oldest first."""
        records = await asyncio.to_thread(self._configuration.history.records)
        return {"in_force": self._configuration.record.number, "records": [asdict(record) for record in records]}


def _said(body: Body) -> tuple[str, str]:
    """Who wants it and why, as told."""
    return str(body.get("who") or "unknown")[:TEXT_MAX], str(body.get("why") or "")[:TEXT_MAX]

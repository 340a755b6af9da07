"""Commands of this machine beside a running agent: asked, answered, refused with the reason it had."""

from __future__ import annotations

import asyncio
import socket
import stat
from contextlib import asynccontextmanager, suppress

import pytest

from twinedge.control import LINE_BYTES_MAX, SOCKET, ControlServer, ask
from twinmodel.errors import ConfigError, InputError, StorageError, UnreachableError


@asynccontextmanager
async def serving(state, **handlers):
    server = ControlServer(state / SOCKET)
    for name, handler in handlers.items():
        server.on(name, handler)
    task = asyncio.create_task(server.run())
    await server.listening.wait()
    try:
        yield server
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def asked(state, name, **body):
    return await asyncio.to_thread(ask, state, name, body)


async def test_what_is_asked_is_answered_also_far_down_a_long_path(tmp_path):
    state = tmp_path / ("long" * 40)
    state.mkdir()

    async def twice(body):
        return {"is": body["n"] * 2}

    async with serving(state, twice=twice):
        assert stat.S_IMODE((state / SOCKET).stat().st_mode) == 0o600
        assert await asyncio.gather(*(asked(state, "twice", n=n) for n in range(20))) == [
            {"is": 2 * n} for n in range(20)
        ]
    assert not (state / SOCKET).exists()


async def test_an_error_arrives_with_its_class_reason_hint_and_facts(tmp_path):
    async def broken(_body):
        raise ConfigError("UNKNOWN_KEY", "no key `x`", hint="did you mean `y`?", path="/etc/site.yaml", line=3)

    async def full(_body):
        raise StorageError("STORE_FULL", "no room")

    async with serving(tmp_path, broken=broken, full=full):
        with pytest.raises(ConfigError) as told:
            await asked(tmp_path, "broken")
        assert (told.value.reason, told.value.hint, told.value.facts["line"]) == ("UNKNOWN_KEY", "did you mean `y`?", 3)
        with pytest.raises(StorageError, match="STORE_FULL: no room"):
            await asked(tmp_path, "full")


async def test_a_defect_in_one_handler_ends_no_other(tmp_path):
    async def defect(_body):
        return {}["missing"]

    async def well(_body):
        return {}

    async with serving(tmp_path, defect=defect, well=well):
        with pytest.raises(Exception, match="INTERNAL"):
            await asked(tmp_path, "defect")
        assert await asked(tmp_path, "well") == {}


async def test_a_question_nobody_knows_and_one_that_is_too_long_are_refused(tmp_path):
    async def long(_body):
        return {"text": "x" * LINE_BYTES_MAX}

    async with serving(tmp_path, long=long):
        with pytest.raises(InputError, match="REQUEST_INVALID"):
            await asked(tmp_path, "nothing")
        with pytest.raises(InputError, match="LIMIT_EXCEEDED"):
            await asked(tmp_path, "long")
        with pytest.raises(InputError, match="LIMIT_EXCEEDED"):
            await asked(tmp_path, "long", text="x" * LINE_BYTES_MAX)


async def test_without_an_agent_the_reason_says_so_also_when_a_killed_one_left_its_socket(tmp_path):
    with pytest.raises(UnreachableError, match="AGENT_NOT_RUNNING"):
        ask(tmp_path, "status", {})
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / SOCKET))
    with pytest.raises(UnreachableError, match="AGENT_NOT_RUNNING"):
        ask(tmp_path, "status", {})

    async def well(_body):
        return {}

    (tmp_path / SOCKET).unlink()
    async with serving(tmp_path, well=well):
        assert await asked(tmp_path, "well") == {}

"""A scenario asks agents as their own commands do."""

import asyncio
import contextlib

import pytest

from twinedge.control import ControlServer
from twinmodel.errors import ConfigError, TwinError, UnreachableError
from twinsim.deployment.agent_control import SOCKET, ask_agent, reload_agent


@pytest.fixture
async def agent(tmp_path):
    server = ControlServer(tmp_path / SOCKET)
    task = asyncio.create_task(server.run(), name="control")
    await server.listening.wait()
    yield server
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_an_agent_answers_or_refuses_with_its_reason(agent, tmp_path):
    async def reload(body):
        if body["why"] == "wrong":
            raise ConfigError("UNKNOWN_KEY", "no such key")
        return {"faults": [{"reason": "PROFILE_MISSING", "message": "T-3"}] if body["why"] == "part" else []}

    agent.on("config.reload", reload)
    assert await asyncio.to_thread(reload_agent, tmp_path, "edit") == {"faults": []}
    for why, reason in (("wrong", "UNKNOWN_KEY"), ("part", "PROFILE_MISSING")):
        with pytest.raises(TwinError) as refused:
            await asyncio.to_thread(reload_agent, tmp_path, why)
        assert refused.value.reason == reason


def test_no_agent_says_so(tmp_path):
    with pytest.raises(UnreachableError):
        ask_agent(tmp_path, "config.reload", {})

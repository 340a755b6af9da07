"""Configurations that the coordinator sends: what holds stays, what does not is gone again, whatever happens."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import msgpack
import pytest

from tests.edge.counting import CountingServer
from tests.edge.running_agent import running
from twinedge import keeping, remote
from twinedge.downlink.receiver import StillOpenError
from twinedge.remote import TARGET, Remote, failure, parse
from twinmodel.errors import ConfigError, ConflictError, DeniedError, InputError
from twinsync.directive import Directive, DirectiveKind

PROFILE = """\
profile: acme/p
protocol: modbus
base: 0
defaults: {every: 20ms}
points:
  a: {at: holding 0, as: uint16}
"""


class Gateway:
    """An agent and the part of it that takes directives."""

    def __init__(self, asked, state):
        stages = asked.agent.stages
        self.asked, self.ended = asked, asyncio.Queue()
        self.configuration = stages._ground.configuration
        self.remote = Remote(
            self.configuration,
            stages.reload,
            stages.telling.status,
            lambda directive, error: self.ended.put_nowait((directive.id, error)),
            state / "config/incoming",
            asked.agent._clock,
        )

    async def end(self):
        """Reason and text with which the trial ended, of the directive that was sent."""
        async with asyncio.timeout(60):
            id_, error = await self.ended.get()
        return id_, "" if error is None else f"{error.reason}: {error.message}"


@asynccontextmanager
async def gateway(config, state):
    async with running(config, state) as asked:
        made = Gateway(asked, state)
        task = asyncio.create_task(made.remote.run())
        yield made
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def servers():
    made = [await CountingServer().start() for _ in range(2)]
    yield made
    for server in made:
        await server.stop()


@pytest.fixture
def site(tmp_path, servers, monkeypatch):
    monkeypatch.setattr(remote, "LOOK_S", 0.02)
    path = tmp_path / "profiles/acme/p/1.0.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(PROFILE)
    text = (
        "site: here\nprofiles: profiles\nstatus: {port: 0}\nconfig: {remote: true, probation: 300ms}\ndevices:\n"
        f'  d: {{modbus: "tcp://127.0.0.1:{servers[0].port}", profile: acme/p}}\n'
    )
    (tmp_path / "site.yaml").write_text(text)
    return text


def directive(site, *, id_="1", base="", profiles=None):
    content = msgpack.packb({"site": site, "profiles": profiles or {}, "by": "anna", "why": "better", "base": base})
    return Directive(id_, DirectiveKind.CONFIG, TARGET, int(id_), b"", 0, "site.yaml", 0, content)


async def test_one_that_holds_stays_also_over_a_restart_although_site_yaml_says_something_else(tmp_path, site, servers):
    config, state = tmp_path / "site.yaml", tmp_path / "state"
    async with gateway(config, state) as here:
        await servers[0].until(lambda: servers[0].reads[0] > 2)
        sent = directive(
            site.replace("acme/p}", "acme/q}"), base=here.configuration.digest,
            profiles={"acme/q/2.0": PROFILE.replace("acme/p", "acme/q") + "  b: {at: holding 1, as: uint16}\n"},
        )  # fmt: skip
        with pytest.raises(StillOpenError):
            await here.remote.obey(sent)
        with pytest.raises(StillOpenError):
            await here.remote.obey(sent)
        assert here.remote.on_trial()["directive"] == "1"
        assert await here.end() == ("1", "")
        await servers[0].until(lambda: servers[0].reads[1] > 2)
        digest = here.configuration.digest
    assert len(servers[0].connections) == 1
    config.write_text(site + "# edited\n")
    async with gateway(config, state) as here:
        shown = await here.asked("config.show")
        assert (shown["digest"], shown["origin"], shown["who"], shown["file_differs"]) == (
            digest, "directive", "anna", True,
        )  # fmt: skip
        await here.asked("config.reload", who="otto", why="on site")
        assert (await here.asked("config.show"))["origin"] == "file"


async def test_one_that_loses_a_device_is_taken_back_by_itself(tmp_path, site, servers):
    silent = await CountingServer().start()
    silent.silent = True
    async with gateway(tmp_path / "site.yaml", tmp_path / "state") as here:
        await servers[0].until(lambda: servers[0].reads[0] > 2)
        first = here.configuration.digest
        with pytest.raises(StillOpenError):
            await here.remote.obey(directive(site.replace(str(servers[0].port), str(silent.port))))
        id_, told = await here.end()
        assert (id_, told.startswith("PROBATION_FAILED: 1 devices that answered before do not: d (")) == ("1", True)
        assert here.configuration.digest == first
        await servers[0].until(lambda: len(servers[0].open) == 1)
        records = (await here.asked("config.history"))["records"]
        assert [(r["origin"], r["outcome"]) for r in records] == [
            ("file", "applied"), ("directive", "failed"), ("rollback", "applied"),
        ]  # fmt: skip
    await silent.stop()


async def test_an_agent_that_ends_during_the_probation_comes_back_with_the_last_good_one(tmp_path, site, servers):
    site = site.replace("300ms", "1h")
    config, state = tmp_path / "site.yaml", tmp_path / "state"
    config.write_text(site)
    sent = directive(site.replace(str(servers[0].port), str(servers[1].port)))
    async with gateway(config, state) as here:
        await servers[0].until(lambda: servers[0].reads[0] > 2)
        first = here.configuration.digest
        with pytest.raises(StillOpenError):
            await here.remote.obey(sent)
        await servers[1].until(lambda: servers[1].reads[0] > 2)
    reads = servers[1].reads[0]
    async with gateway(config, state) as here:
        await servers[0].until(lambda: len(servers[0].open) == 1)
        assert here.configuration.digest == first
        with pytest.raises(ConflictError, match="PROBATION_FAILED"):
            await here.remote.obey(sent)
    assert servers[1].reads[0] == reads


async def test_one_that_was_replaced_on_site_meanwhile_has_failed_and_the_replacement_stays(tmp_path, site, servers):
    site = site.replace("300ms", "1h")
    (tmp_path / "site.yaml").write_text(site)
    async with gateway(tmp_path / "site.yaml", tmp_path / "state") as here:
        with pytest.raises(StillOpenError):
            await here.remote.obey(directive(site + "# other\n"))
        await here.asked("config.reload", who="otto", why="mine")
        assert (await here.end())[1].startswith("PROBATION_FAILED: it was replaced on site")
        shown = await here.asked("config.show")
        assert (shown["who"], shown["file_differs"]) == ("otto", False)


async def test_what_must_not_be_tried_is_refused_and_nothing_changes(tmp_path, site, servers):
    async with gateway(tmp_path / "site.yaml", tmp_path / "state") as here:
        first = here.configuration.digest
        with pytest.raises(ConflictError, match="CONFIG_CONFLICT"):
            await here.remote.obey(directive(site, base="00" * 32))
        two = site + f'  e: {{modbus: "tcp://127.0.0.1:{servers[1].port}", profile: acme/none}}\n'
        with pytest.raises(ConfigError, match="PROFILE_MISSING"):
            await here.remote.obey(directive(two))
        with pytest.raises(ConfigError, match="YAML_INVALID"):
            await here.remote.obey(directive("devices: ["))
        assert here.configuration.digest == first
        (tmp_path / "site.yaml").write_text(site.replace("remote: true", "remote: false"))
        await here.asked("config.reload", who="otto", why="no more")
        with pytest.raises(DeniedError, match="FORBIDDEN"):
            await here.remote.obey(directive(site))
    assert len(servers[0].connections) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"\xc1", msgpack.packb([1]), msgpack.packb({"site": 1}),
     msgpack.packb({"site": "", "profiles": {"a/b/../c": ""}}),
     msgpack.packb({"site": "", "profiles": {"a/b/c": 1}}), msgpack.packb({"site": "", "profiles": {"/etc/x/y": ""}})],
)  # fmt: skip
def test_what_is_no_configuration_is_refused(content):
    with pytest.raises(InputError, match="REQUEST_INVALID"):
        parse(content)


def test_what_was_not_there_before_or_is_gone_on_purpose_fails_no_probation():
    def status(*devices, connected=True, degraded=()):
        told = [{"device": name, "connected": on, "last_error": ""} for name, on in devices]
        return {"devices": told, "uplink": {"connected": connected, "last_error": "cut"}, "degraded": list(degraded)}

    before = status(("a", True), ("b", False), ("gone", True), degraded=["STORE_FULL"])
    assert failure(before, status(("a", True), ("b", False), ("new", False), degraded=["STORE_FULL"])) == ""
    assert "1 devices" in failure(before, status(("a", False)))
    assert "no session" in failure(before, status(("a", True), connected=False))
    assert "CERT_EXPIRED" in failure(before, status(("a", True), degraded=["STORE_FULL", "CERT_EXPIRED"]))


@pytest.mark.parametrize("settled", [True, False])
async def test_one_that_had_proven_itself_when_the_agent_died_is_told_as_applied_when_it_comes_again(
    tmp_path, site, servers, settled
):
    config, state = tmp_path / "site.yaml", tmp_path / "state"
    async with gateway(config, state) as here:
        sent = directive(site + "# other\n", base=here.configuration.digest)
        with pytest.raises(StillOpenError):
            await here.remote.obey(sent)
        assert await here.end() == ("1", "")
        record = here.configuration.record
        if not settled:  # it died between the two files
            here.configuration.history.settle(replace(record, outcome="probation"))
    async with gateway(config, state) as here:
        assert here.configuration.record == record
        await here.remote.obey(sent)
        assert here.configuration.record == record
        assert here.configuration.history.get(record.number).outcome == "applied"


async def test_what_would_only_show_at_the_next_start_cannot_be_sent(tmp_path, site, servers):
    async with gateway(tmp_path / "site.yaml", tmp_path / "state") as here:
        first = here.configuration.digest
        with pytest.raises(DeniedError, match="cannot be tried"):
            await here.remote.obey(directive(site.replace("port: 0}", "port: 1}")))
        assert here.configuration.digest == first


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("acme/q/2.0", "no profile at all", "VALUE_INVALID"),
        ("acme/q/2.0", PROFILE.replace("uint16", "uint17").replace("acme/p", "acme/q"), "uint17"),
        ("acme/q/2.0", PROFILE.replace("acme/p", "acme/q"), "no device is read by profile acme/q/2.0"),
        ("acme/p/9.0", "- 1\n", "VALUE_INVALID"),
    ],
)
async def test_what_is_sent_along_and_is_no_profile_or_of_no_use_is_refused(tmp_path, site, servers, name, text, said):
    async with gateway(tmp_path / "site.yaml", tmp_path / "state") as here:
        first = here.configuration.digest
        with pytest.raises(ConfigError, match=said):
            await here.remote.obey(directive(site + "# other\n", profiles={name: text}))
        assert (here.configuration.digest, here.remote.on_trial()) == (first, None)


async def test_a_defect_while_it_is_watched_does_not_leave_a_trial_without_an_end(tmp_path, site, servers, monkeypatch):
    monkeypatch.setattr(keeping, "RESTART_S", 0.01)
    async with running(tmp_path / "site.yaml", tmp_path / "state") as asked:
        here = Gateway(asked, tmp_path / "state")
        task = asyncio.create_task(keeping.keep("remote", here.remote.run))
        await servers[0].until(lambda: servers[0].reads[0] > 2)
        with pytest.raises(StillOpenError):
            await here.remote.obey(directive(site + "# other\n"))
        status, defects = here.remote._status, iter([ZeroDivisionError("a defect")])

        async def trips():
            for defect in defects:
                raise defect
            return await status()

        here.remote._status = trips
        assert await here.end() == ("1", "")
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

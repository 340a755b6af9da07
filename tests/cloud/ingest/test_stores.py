"""The real sender and servicer over a real store that is older than it was."""

from __future__ import annotations

import asyncio

import pytest

from tests.cloud.ingest.link import Coordinator, dialling
from tests.cloud.ingest.memory import GATEWAY, MemorySpool, until
from tests.contract.conftest import _PARAMS
from tests.contract.plant import NOW, invite
from twincloud.backup import backup as backup_file
from twincloud.backup import restore as restore_file
from twincloud.backup_shared import backup, restore
from twincloud.storage import create, open_store
from twincloud.storage.directory import create_shared
from twincloud.storage.shared import upgrade
from twinmodel.clock import ManualClock


def numbers(store, key=GATEWAY) -> list[tuple[bytes, int, int]]:
    """Every number of a sample that is stored, as often as it is."""
    with store._database.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT b.boot, k.stream, k.first_seq, k.last_seq FROM blocks k JOIN boots b ON b.id = k.boot_id"
            f" JOIN gateways g ON g.id = k.gateway_id WHERE g.gateway = '{key.gateway}'"
        ).all()
    return [(bytes(boot), stream, n) for boot, stream, first, last in rows for n in range(first, last + 1)]


def sent(spool) -> set[tuple[bytes, int, int]]:
    return {(boot, int(stream), n) for boot, stream, n in spool.ids()}


@pytest.mark.parametrize("engine", _PARAMS)
async def test_a_restored_backup_is_healed_by_what_the_gateway_still_has(request, tmp_path, engine):
    clock, state, url = ManualClock(NOW), tmp_path / "state", ""
    if engine == "postgresql":
        url = request.getfixturevalue("postgres_url")
        await asyncio.to_thread(upgrade, url)
        create_shared(state)
    else:
        create(state)
    store = open_store(state, clock=clock, database=url)
    invite(store, GATEWAY)
    spool = MemorySpool().boot()
    spool.append()
    coordinator = Coordinator(store)
    async with coordinator.up(), dialling(coordinator, spool):
        await until(lambda: not spool.unacked)
    copy = tmp_path / "copy"
    await asyncio.to_thread(lambda: backup(url, state, copy, clock) if url else backup_file(state, copy, clock))
    for _ in range(5):
        spool.append()
    async with coordinator.up(), dialling(coordinator, spool):
        await until(lambda: not spool.unacked)
    whole = numbers(store)
    store.close()
    await asyncio.to_thread(
        lambda: restore(url, copy, state, replace=True) if url else restore_file(copy, state, replace=True)
    )
    store = coordinator.store = open_store(state, clock=clock, database=url)
    try:
        assert len(numbers(store)) < len(whole)
        async with coordinator.up(), dialling(coordinator, spool):
            await until(lambda: spool.rewound > 0 and not spool.unacked)
        assert sorted(numbers(store)) == sorted(whole)
        assert set(whole) == sent(spool)
    finally:
        store.close()

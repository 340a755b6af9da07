"""What PostgreSQL alone must keep: tenants apart, two coordinators of one mind, all healed when the server is back."""

from __future__ import annotations

import threading

import psycopg
import pytest
from sqlalchemy import text

from tests.contract.conftest import Postgres
from tests.contract.plant import KEY, NOW, TWIN, Edge, catalogue, invite, stored
from tests.contract.running import TABLES, run_plant
from tests.services import Cluster
from twincloud.storage import rights
from twincloud.storage.contract import GatewayKey, TwinKey
from twincloud.storage.schema import metadata
from twincloud.storage.shared import upgrade
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError, StorageError, TwinError

pytestmark = pytest.mark.service("postgresql")
OTHER = GatewayKey("rival", "shop", "gw-9")


@pytest.fixture
def place(tmp_path, templates, postgres_cluster):
    made = Postgres(tmp_path, templates / "postgresql", postgres_cluster)
    yield made
    made.close()


@pytest.fixture
def store(place):
    opened = place.open()
    invite(opened)
    return opened


@pytest.fixture
def two(place, tmp_path):
    """Two coordinators on one database, one gateway invited."""
    (tmp_path / "second").mkdir()
    one, other = place.open(), place.open(tmp_path / "second")
    invite(one)
    return one, other


def fill(store) -> None:
    """A gateway of each of two tenants, with something in every table that gateways fill."""
    invite(store, OTHER)
    for key, seed in ((KEY, 1), (OTHER, 2)):
        edge = run_plant(store, key, seed)
        edge.send(store, [edge.gap(3), edge.poison()], key=key)


def tenants_seen(connection, table: str) -> set[str]:
    return set(connection.execute(text(f'SELECT tenant FROM "{table}"')).scalars())


def test_every_table_with_a_tenant_shows_one_tenant_alone_whatever_the_sql_forgets(store):
    fill(store)
    database = store._database
    filled = set()
    for table in (t.name for t in metadata.sorted_tables if "tenant" in t.c):
        with database.read() as everybody, database.read("acme") as acme:
            both = tenants_seen(everybody, table)
            assert "" not in both, f"{table}: a row was written without its tenant"
            assert tenants_seen(acme, table) <= {"acme"}
            assert tenants_seen(acme, table) == both & {"acme"}
            filled |= {table} if both >= {"acme", "rival"} else set()
    assert {"blocks", "marks", "boots", "losses", "dead_letters", "gateways", "twins", "events", *TABLES} <= filled
    with database.read("acme") as acme, database.read("nobody") as nobody:
        assert acme.execute(text("SELECT count(*) FROM schemas")).scalar() == 1
        assert nobody.execute(text("SELECT count(*) FROM schemas")).scalar() == 0


def test_a_tenant_can_neither_write_nor_move_nor_delete_rows_of_another(store):
    fill(store)
    with pytest.raises(StorageError, match="row-level security"), store._database.write("acme") as connection:
        connection.execute(text("INSERT INTO sites (tenant, site) VALUES ('rival', 'stolen')"))
    with store._database.write("acme") as connection:
        assert connection.execute(text("UPDATE gateways SET state = 'suspended'")).rowcount == 1
        assert connection.execute(text("DELETE FROM losses")).rowcount == 1
    with store._database.read() as everybody:
        assert tenants_seen(everybody, "losses") == {"rival"}


def test_without_a_tenant_nothing_is_seen_and_a_transaction_leaves_none_behind(store, place):
    fill(store)
    database = store._database
    with database.read("acme"):
        pass
    with database.session() as plain:
        plain.execute(f"SET ROLE {database._role}")
        assert plain.execute("SELECT count(*) FROM blocks").fetchone() == (0,)
        # What SET without LOCAL would leave for whoever gets the connection next.
        plain.execute("BEGIN; SET LOCAL hybridtwin.tenant = 'acme'")
        assert plain.execute("SELECT count(*) FROM blocks").fetchone() == (2,)
        plain.execute("COMMIT")
        assert plain.execute("SELECT count(*) FROM blocks").fetchone() == (0,)


def test_the_owner_of_the_tables_is_held_too_and_partitions_are_out_of_reach(store, place):
    fill(store)
    with psycopg.connect(place.url, autocommit=True) as server:
        server.execute("CREATE ROLE owner_of_tables")
        try:
            server.execute("ALTER TABLE losses OWNER TO owner_of_tables")
            server.execute("SET ROLE owner_of_tables")
            assert server.execute("SELECT count(*) FROM losses").fetchone() == (0,)
        finally:
            server.execute("RESET ROLE; DROP OWNED BY owner_of_tables CASCADE; DROP ROLE owner_of_tables")
    with pytest.raises(StorageError, match="permission denied"), store._database.read("acme") as connection:
        connection.execute(text("SELECT * FROM blocks_0"))


def test_a_view_of_a_mighty_owner_and_a_table_without_policy_are_noticed(store, place, tmp_path):
    with store._database.read() as connection:
        assert rights.unguarded(connection) == ()
    with psycopg.connect(place.url, autocommit=True) as server:
        server.execute("CREATE VIEW leak AS SELECT * FROM losses")
        server.execute("CREATE TABLE forgotten (tenant text)")
    with store._database.read() as connection:
        assert len(rights.unguarded(connection)) == 2
    with pytest.raises(StorageError, match="STATE_INVALID"):
        place.open(tmp_path)


def test_two_coordinators_take_turns_with_one_gateway_and_agree_with_a_fresh_one(two, place, tmp_path):
    one, other = two
    edge = Edge(3)
    for turn in range(6):
        store = two[turn % 2]
        edge.connect(store, now_ns=NOW + turn)
        edge.send(store, [edge.tick(NOW + turn * SECOND_NS, float(turn)), edge.tick(NOW - turn * SECOND_NS, 0.5)])
        # What the other one holds in memory is behind; reading it must not be.
        assert two[(turn + 1) % 2].state_hash(TWIN) == store.state_hash(TWIN)
    (tmp_path / "fresh").mkdir()
    fresh = place.open(tmp_path / "fresh")
    assert fresh.state_hash(TWIN) == one.state_hash(TWIN) == other.state_hash(TWIN)
    assert len(stored(other)) == len(set(stored(other))) == 12 * 24


def test_the_coordinator_a_gateway_left_is_fenced(two):
    one, other = two
    edge = Edge(4)
    edge.connect(one)
    first = edge.session
    edge.connect(other)
    with pytest.raises(ConflictError, match="FENCED"):
        one.commit(KEY, first, [edge.tick(NOW)], NOW)


def test_what_one_binds_the_other_knows_at_its_next_commit(two):
    one, other = two
    narrow, wide = catalogue(1), catalogue(2)
    edge = Edge(5, narrow)
    edge.connect(one)
    edge.send(one, [edge.tick(NOW)])
    edge.connect(other)
    edge.send(other, [edge.tick(NOW + SECOND_NS)])
    edge.catalogue = wide
    edge.connect(one)
    edge.send(one, [edge.tick(NOW + 2 * SECOND_NS)])
    edge.connect(other)
    commit = edge.send(other, [edge.tick(NOW + 3 * SECOND_NS)])
    assert {key.twin for key in commit.twins} == {"pump-0", "pump-1"}
    assert one.state_hash(TwinKey("acme", "mill", "pump-1")) == other.state_hash(TwinKey("acme", "mill", "pump-1"))


def test_numbers_of_two_writers_never_meet_and_are_seen_in_order(two):
    edges = [Edge(seed) for seed in (6, 7)]
    keys = [KEY, GatewayKey("acme", "mill", "gw-2")]
    invite(two[0], keys[1])
    for store, edge, key in zip(two, edges, keys, strict=True):
        edge.connect(store, key)

    def send(place: int) -> None:
        for n in range(10):
            edges[place].send(two[place], [edges[place].tick(NOW + n * SECOND_NS)], key=keys[place])

    threads = [threading.Thread(target=send, args=(place,)) for place in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with two[0]._database.read() as connection:
        rows = connection.execute(text("SELECT id, commit_no, committed_ns FROM blocks ORDER BY id")).all()
        events = connection.execute(text("SELECT id FROM events")).scalars().all()
    assert len(rows) == 20
    numbers = [row.id for row in rows] + [row.commit_no for row in rows] + list(events)
    assert len(set(numbers)) == len(numbers)


def test_a_bell_wakes_the_other_and_a_lease_is_held_by_one(two):
    one, other = two
    rung = threading.Event()
    with other.announce(rung.set):
        assert rung.wait(30)  # once at the start: something may have been missed
        rung.clear()
        edge = Edge(8)
        edge.connect(one)
        assert rung.wait(30)
    with one.lease("compaction") as mine, other.lease("compaction") as theirs, other.lease("archive") as another:
        assert (mine, theirs, another) == (True, False, True)
    with other.lease("compaction") as theirs:
        assert theirs


def test_what_addresses_nobody_is_passed_over_once(two):
    one, other = two
    edge = Edge(21)
    edge.connect(one)
    after, found = other.addressed(0)
    assert found == (KEY,)
    for n in range(3):
        edge.send(one, [edge.tick(NOW + n * SECOND_NS)])
    later, found = other.addressed(after)
    assert (later > after, found) == (True, ())
    one.open_directive(KEY, "config", "@config", name="new", content=b"", by="ann", now_ns=NOW)
    assert other.addressed(later)[1] == (KEY,)


def test_a_starting_coordinator_ends_its_own_sessions_and_those_of_the_missing_alone(two):
    one, other = two
    second = GatewayKey("acme", "mill", "gw-2")
    invite(one, second)
    Edge(9).connect(one)
    Edge(10).connect(other, second)
    other.end_sessions(NOW)
    assert (one.gateway(KEY).connected, one.gateway(second).connected) == (True, False)
    there = threading.Event()
    with one.announce(there.set):
        assert there.wait(30)
        while missing := other.end_absent(NOW):  # until its presence is known
            assert missing == (one._replica,)
        assert other.end_absent(NOW, (one._replica,)) == ()
    assert other.gateway(KEY).connected
    assert other.end_absent(NOW) == (one._replica,)
    assert other.gateway(KEY).connected
    assert other.end_absent(NOW, (one._replica,)) == (one._replica,)
    assert not other.gateway(KEY).connected


def test_partitions_are_made_ahead_and_dropped_when_they_are_empty(store):
    edge = Edge(11)
    edge.connect(store)
    edge.send(store, [edge.tick(NOW)])
    with store._database.write() as connection:
        connection.execute(text("UPDATE counters SET value = (3::bigint << 20) - 6 WHERE name = 'row'"))
    edge.send(store, [edge.tick(NOW + n * SECOND_NS) for n in range(1, 9)])
    assert store.reclaim() == 1  # the second one, which was made ahead
    with store._database.write() as connection:
        connection.execute(text("DELETE FROM blocks WHERE id < 1000"))
    assert store.reclaim() == 1
    assert len(stored(store)) == 8 * 24


def test_text_that_postgresql_cannot_hold_poisons_no_commit(store):
    with store._database.write() as connection:
        store._database.write_many(
            connection,
            text("INSERT INTO sites (tenant, site) VALUES (:tenant, :site)"),
            [{"tenant": "acme", "site": "a\0b"}],
        )
    assert "a\ufffdb" in store.sites("acme")


def test_a_database_that_sorts_by_a_language_is_refused(postgres_cluster):
    with psycopg.connect(postgres_cluster.url(), autocommit=True) as server:
        server.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with pytest.raises(StorageError, match="STATE_INVALID"):
        upgrade(postgres_cluster.url("latin"))


def test_upgrade_is_repeatable_and_a_user_without_rights_is_told_what_an_administrator_runs(place):
    upgrade(place.url)
    with psycopg.connect(place.url, autocommit=True) as server:
        server.execute("CREATE ROLE weak LOGIN")
    try:
        with pytest.raises(TwinError, match="hybridtwin_app"):
            upgrade(place.url.replace("postgres@", "weak@"))
    finally:
        with psycopg.connect(place.url, autocommit=True) as server:
            server.execute("DROP ROLE weak")


def test_a_server_that_crashes_and_restarts_under_load_loses_nothing_and_all_heals(tmp_path):
    cluster = Cluster(fsync=True)
    try:
        url = cluster.url(cluster.database())
        place = Postgres.over(tmp_path, url)
        store = place.open()
        invite(store)
        edge = Edge(12)
        edge.connect(store)
        sent = [edge.send(store, [edge.tick(NOW + n * SECOND_NS)]).marks[0].next_seq for n in range(5)]
        cluster.crash()
        waiting = edge.tick(NOW + 5 * SECOND_NS)
        with pytest.raises(StorageError) as told:
            edge.send(store, [waiting])
        assert told.value.reason == "STORE_UNAVAILABLE"
        with pytest.raises(StorageError):
            store.twin(TWIN)
        cluster.start()
        assert edge.send(store, [waiting]).marks[0].next_seq == sent[-1] + 24
        assert len(stored(store)) == 6 * 24
        place.close()
    finally:
        cluster.close()


def test_joins_of_whole_tables_compare_no_pairs_and_only_until_the_block_ends(store):
    setting = text("SHOW enable_nestloop")
    plan = text("EXPLAIN SELECT * FROM twin_records r LEFT JOIN twins t ON (t.tenant, t.site, t.twin) = "
                "(r.tenant, r.site, r.twin) WHERE r.tenant = 'acme' AND r.site = 'mill'")  # fmt: skip
    with store._database.read("acme") as connection:
        with store._database.whole(connection):
            told = "\n".join(connection.execute(plan).scalars())
        assert connection.execute(setting).scalar() == "on"
    assert "Nested Loop" not in told

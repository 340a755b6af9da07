"""What PostgreSQL has beside the tables of the migrations: blocks in partitions, and a bell for other coordinators.

Blocks are partitioned by range of their number, 2**20 (about 3 GB) each. The number is how every part of the store
finds a block, so the primary key stays what it is and such look-ups touch one partition; it grows with the time of
commit, so that compaction and retention empty the oldest partitions, which are then dropped whole instead of leaving
holes to clean. By event time that would not be so: a backlog of a month ago may come today. Two partitions are always
made ahead, by the writer that comes near the end of the last one. Uniqueness of (boot, stream, first number) is kept
in each partition; across them the marks alone keep it. Blocks have no foreign keys here: each new partition would lock
the tables they name in the midst of a commit, and gateways, boots and catalogues are never deleted.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from twincloud.storage import schema as t
from twincloud.storage.postgres import driver
from twincloud.storage.presence import CHANNEL

BITS: Final = 20

# They belong to the owner of the tables; the role of the application may only call them.
_FUNCTIONS: Final = f"""
CREATE OR REPLACE FUNCTION hybridtwin_extend(number bigint) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT AS $$
DECLARE part bigint; name text;
BEGIN
  FOR part IN SELECT generate_series(number >> {BITS}, (number >> {BITS}) + 1) LOOP
    name := format('blocks_%s', part);
    IF to_regclass(name) IS NULL THEN
      EXECUTE format('CREATE TABLE %I (LIKE blocks INCLUDING ALL)', name);
      EXECUTE format('CREATE UNIQUE INDEX ON %I (boot_id, stream, first_seq)', name);
      EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
      EXECUTE format('ALTER TABLE blocks ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
                     name, part << {BITS}, (part + 1) << {BITS});
    END IF;
  END LOOP;
  RETURN ((number >> {BITS}) + 2) << {BITS};
END $$;
CREATE OR REPLACE FUNCTION hybridtwin_shrink(number bigint) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT AS $$
DECLARE part bigint; name text; filled boolean; dropped bigint := 0;
BEGIN
  FOR part, name IN
    SELECT substr(c.relname, 8)::bigint, c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'blocks'::regclass AND substr(c.relname, 8)::bigint < number >> {BITS} ORDER BY 1
  LOOP
    EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I)', name) INTO filled;
    CONTINUE WHEN filled;
    EXECUTE format('DROP TABLE %I', name);
    dropped := dropped + 1;
  END LOOP;
  RETURN dropped;
END $$;
CREATE OR REPLACE FUNCTION hybridtwin_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('{CHANNEL}', '');
  RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER tell AFTER INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION hybridtwin_tell();
"""  # noqa: S608 - text of ours
_PARTITIONED: Final = "SELECT relkind = 'p' FROM pg_class WHERE oid = 'blocks'::regclass"


def arrange(connection: Connection) -> None:
    """Makes functions and bell, and the table of blocks anew in partitions, with what it held; once."""
    run = connection.exec_driver_sql
    if not run(_PARTITIONED).scalar_one():
        run("ALTER TABLE blocks RENAME TO blocks_whole")
        run("CREATE TABLE blocks (LIKE blocks_whole INCLUDING DEFAULTS) PARTITION BY RANGE (id)")
        # Payloads are compressed already.
        for table in ("blocks", "dead_letters"):
            run(f"ALTER TABLE {table} ALTER COLUMN payload SET STORAGE EXTERNAL")
        driver(connection).execute(_FUNCTIONS)
        run(
            "SELECT hybridtwin_extend(number) FROM generate_series(0,"  # noqa: S608 - a number of ours
            f" (SELECT COALESCE(MAX(id), 0) FROM blocks_whole), {1 << BITS}) AS number"
        )
        run("INSERT INTO blocks SELECT * FROM blocks_whole")
        run("DROP TABLE blocks_whole")
        run("ALTER TABLE blocks ADD CONSTRAINT pk_blocks PRIMARY KEY (id)")
        for index in t.blocks.indexes:
            index.create(connection)
    driver(connection).execute(_FUNCTIONS)

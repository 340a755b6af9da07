"""Row-level security: whose rows a transaction on PostgreSQL sees, whatever its SQL forgets.

    every table with a tenant   ENABLE and FORCE, one policy: the transaction's tenant; `*` is the coordinator
    schemas                     catalogues that a gateway of the tenant has sent
    the application's role      reads and writes rows; owns nothing, bypasses nothing

Without a tenant a transaction sees nothing. Applied anew after every upgrade, so that no new table is left out.
"""

from __future__ import annotations

from sqlalchemy import Connection, MetaData

from twinmodel.errors import ConflictError

POLICY = "tenant_alone"
_TENANT = "(SELECT current_setting('hybridtwin.tenant', true))"
_ALL = f"{_TENANT} = '*'"
_RIGHTS = "SELECT, INSERT, UPDATE, DELETE"


def make_role(connection: Connection, role: str) -> None:
    """Makes the application's role, unless it is there, and lets the present user act in it.

    Raises:
        ConflictError: STATE_INVALID with the statements that an administrator of the server has to run.
    """
    (exists, may, member, user) = connection.exec_driver_sql(
        "SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = %(role)s),"
        " (SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user),"
        " (SELECT pg_has_role(current_user, oid, 'MEMBER') FROM pg_roles WHERE rolname = %(role)s), current_user",
        {"role": role},
    ).one()
    statements = [] if exists else [f"CREATE ROLE {role} NOLOGIN"]
    if not member:
        statements.append(f'GRANT {role} TO "{user}"')
    if statements and not may:
        raise ConflictError(
            "STATE_INVALID",
            f"user {user!r} of the database may not make the role {role}",
            hint=f"let an administrator run: {'; '.join(statements)}",
        )
    for statement in statements:
        connection.exec_driver_sql(statement)


def secure(connection: Connection, metadata: MetaData, role: str) -> None:
    """Puts policies on all tables that name a tenant and gives the role its rights; as often as wanted."""
    run = connection.exec_driver_sql
    schema = run("SELECT quote_ident(current_schema())").scalar_one()
    run(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    run(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}")
    run(f"GRANT SELECT ON alembic_version TO {role}")
    for table in metadata.sorted_tables:
        run(f'GRANT {_RIGHTS} ON "{table.name}" TO {role}')
        if "tenant" in table.c:
            _put_policy(connection, table.name, f"tenant = {_TENANT} OR {_ALL}")
    sent = f"EXISTS (SELECT 1 FROM gateway_schemas WHERE gateway_schemas.schema_id = schemas.id) OR {_ALL}"  # noqa: S608 - text of ours
    _put_policy(connection, "schemas", sent, check="true")
    for function in ("hybridtwin_extend(bigint)", "hybridtwin_shrink(bigint)"):
        run(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        run(f"GRANT EXECUTE ON FUNCTION {function} TO {role}")


def unguarded(connection: Connection) -> tuple[str, ...]:
    """What would let a transaction see rows of another tenant: tables without a policy, views, a mighty role."""
    found = connection.exec_driver_sql(
        "SELECT 'table ' || c.relname || ' has no row-level security' FROM pg_class c"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant' AND NOT a.attisdropped"
        " WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        " AND NOT (c.relrowsecurity AND c.relforcerowsecurity)"
        " UNION ALL SELECT 'view ' || c.relname || ' shows rows as its owner sees them' FROM pg_class c"
        " WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('v', 'm')"
        " AND NOT COALESCE('security_invoker=true' = ANY (c.reloptions), false)"
        " UNION ALL SELECT 'role ' || rolname || ' bypasses row-level security' FROM pg_roles"
        " WHERE rolname = current_user AND (rolsuper OR rolbypassrls)"
    )
    return tuple(str(line) for (line,) in found)


def _put_policy(connection: Connection, table: str, using: str, *, check: str = "") -> None:
    run = connection.exec_driver_sql
    run(f'ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY')
    run(f'ALTER TABLE "{table}" FORCE ROW LEVEL SECURITY')
    run(f'DROP POLICY IF EXISTS {POLICY} ON "{table}"')
    run(f'CREATE POLICY {POLICY} ON "{table}" USING ({using}) WITH CHECK ({check or using})')

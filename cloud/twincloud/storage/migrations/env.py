"""Alembic's environment: runs on the connection that `storage.migrate` hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

from twincloud.storage import (
    schema_alarms,
    schema_archives,
    schema_cloud,
    schema_commands,
    schema_fleets,
    schema_hours,
    schema_operations,
    schema_requests,
    schema_twins,
)
from twincloud.storage.schema import metadata

__all__ = [
    "schema_alarms",
    "schema_archives",
    "schema_cloud",
    "schema_commands",
    "schema_fleets",
    "schema_hours",
    "schema_operations",
    "schema_requests",
    "schema_twins",
]

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()

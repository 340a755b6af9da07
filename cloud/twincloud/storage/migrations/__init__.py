"""Versions of the tables, applied at open by Alembic; works from an installed package."""

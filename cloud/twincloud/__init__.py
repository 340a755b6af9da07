"""The coordinator: ingest, twins, registry, identity, REST and console."""

"""The gateway agent: drivers, gate, models, spool and uplink."""

"""Firmware profiles: what one firmware version of one device exposes, as a declarative file."""

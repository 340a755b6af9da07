"""Verified model packages on disk, and which of them should run where."""

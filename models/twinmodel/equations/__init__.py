"""Equations in YAML, read, checked for units and lowered to an op-list or to matrices."""

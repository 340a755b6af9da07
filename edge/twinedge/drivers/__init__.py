"""Drivers: one module per protocol, each the only one that imports its library; `registry` picks them."""

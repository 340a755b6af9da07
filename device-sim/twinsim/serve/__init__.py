"""Servers: the protocols simulated devices speak, one library a module."""

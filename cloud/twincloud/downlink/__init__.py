"""Desired things on their way to gateways, and what became of them."""

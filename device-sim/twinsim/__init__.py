"""Devices, plants, faults and load that behave like real ones, by seed."""

"""Devices made from firmware profiles alone: what every point holds now, and how it lies in the device."""

"""Calibration and identification: parameters and noise of a model from measured data, with a report."""

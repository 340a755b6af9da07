"""Numeric kernels of the estimator: strict floating point, the same bits in every tier."""

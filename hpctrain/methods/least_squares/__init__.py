"""Damped Gauss-Newton systems."""

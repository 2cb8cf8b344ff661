"""Decomposition of the parameters and of the samples."""

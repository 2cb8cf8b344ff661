"""Checks of a torch module before a run."""

"""Schwarz methods over blocks of layers: local solves, synchronisation, global steps."""

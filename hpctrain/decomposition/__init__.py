"""Cuts the parameters into blocks."""

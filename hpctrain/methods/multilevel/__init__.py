"""Multilevel methods: cycles over levels, and who makes the steps on a level."""

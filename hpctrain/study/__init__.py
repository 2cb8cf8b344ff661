"""Comparisons and scaling studies: the runs that they start, their tables and figures."""

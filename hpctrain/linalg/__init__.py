"""Vectors, random numbers and linear algebra whose bits depend on no rank or thread."""

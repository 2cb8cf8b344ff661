"""The equations that are shipped, one file each with its reference solution."""

"""A job file: its settings, its faults in one line, and what replaces settings."""

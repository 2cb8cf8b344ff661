"""A job file: its settings, the faults in it told in one line, and what replaces them."""

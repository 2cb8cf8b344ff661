"""How reference solutions are computed, where several equations share a method."""

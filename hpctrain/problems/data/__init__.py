"""Data sets for classification: what they are, and readers of the formats they come in."""

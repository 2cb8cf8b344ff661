"""A run: from a job to its objects, the outer loop, what watches it, and how it goes on."""

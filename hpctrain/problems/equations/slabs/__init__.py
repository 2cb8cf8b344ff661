"""Time slabs: windows of time that are solved one after the other, each by a network of its own."""

"""Python of the user's own: classes in files, and their faults told in one line."""

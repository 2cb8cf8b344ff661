"""Python code of the user: classes in files, and their faults in one line."""

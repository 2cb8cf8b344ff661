"""What is checked of an equation before a run."""

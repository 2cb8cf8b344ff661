"""What is checked of a torch module before a run."""

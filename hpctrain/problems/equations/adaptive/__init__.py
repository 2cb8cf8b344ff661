"""Points and weights of equations that are renewed in the course of a run."""

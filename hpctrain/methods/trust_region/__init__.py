"""Trust regions: the model, its minimiser, the control of the radius, steps and phases of steps."""

"""Samples of a step: mini-batches, random subsets, shares."""

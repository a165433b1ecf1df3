"""Curvature of a network's log likelihood in its weights, and what the evidence needs of it."""

"""Curvature of a network's log likelihood in its weights, as the Laplace approximation needs it."""

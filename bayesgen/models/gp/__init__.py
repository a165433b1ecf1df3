"""Gaussian processes with Gaussian noise: the model, its searches, its posterior."""

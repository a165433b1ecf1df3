"""Laplace approximations of networks: the model, its prior precisions and its posterior."""

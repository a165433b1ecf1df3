"""Laplace approximations of networks: the model, its prior precisions, its posteriors."""

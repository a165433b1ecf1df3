"""Covariance matrices on fixed inputs: of kernels, of features, in tiles, over processes."""

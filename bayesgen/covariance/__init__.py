"""Covariance matrices on fixed inputs: from kernels or features, in tiles, across processes."""

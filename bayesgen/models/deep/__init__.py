"""Deep kernels: a Gaussian process on the features of a network."""

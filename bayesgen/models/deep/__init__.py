"""Deep kernels: a network's features under a Gaussian process."""

"""What deep kernels are made of: features by batches, the evidence above them, a prior on them."""

"""Linear models: features under a prior by order, their exact evidence and posterior."""

"""Search for the maximum of a log marginal likelihood: draws by role, screening and ascent."""

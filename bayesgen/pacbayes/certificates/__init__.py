"""PAC-Bayes certificates of fitted posteriors: requests, tuning, payments and statements."""

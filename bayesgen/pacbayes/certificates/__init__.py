"""PAC-Bayes certificates of posteriors: what is asked, tuned, paid for and said."""

"""Certificates of networks that were trained on other data, or whose weights are a prior's mean."""

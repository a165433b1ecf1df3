"""Certificates of networks that are compressed to codes."""

"""Certificates of networks that are compressed to short codes."""

"""Certificates of networks that are compressed to short codes."""

from bayesgen._internal import moved as _moved

__getattr__ = _moved.forwarding(__name__, "compressed_network")

"""Fitted models of other packages as posteriors of this one."""

from bayesgen.adopt.fitted import evidence_of

__all__ = ["evidence_of"]

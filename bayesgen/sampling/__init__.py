"""Estimates of log p(D) that need no Laplace approximation: annealing, and prequential codes."""

from bayesgen.sampling.anneal import Annealed, anneal
from bayesgen.sampling.code_length import CodeLength
from bayesgen.sampling.estimates import EvidenceInterval
from bayesgen.sampling.prequential import prequential

__all__ = ["Annealed", "CodeLength", "EvidenceInterval", "anneal", "prequential"]

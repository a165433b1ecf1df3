"""PAC-Bayes bounds: functions of tensors, nats in, a bound out."""

from bayesgen.pacbayes.bounds import maurer

__all__ = ["maurer"]

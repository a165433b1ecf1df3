"""Tests of `bayesgen.pacbayes.certificates.certificate`."""

import bayesgen as bg
from bayesgen import pacbayes
from tests.helpers import rbf_kernel


def test_text_states_what_is_bounded_and_paid(digits, parity):
    models = [bg.GaussianProcess(rbf_kernel(v)) for v in (1.0, 2.0)]
    story = str(pacbayes.certify(models, digits.x_train, parity, delta=0.01))
    for part in (
        "at least 0.99",
        "200 observations",
        "KL(Q‖P)",
        "2 priors stated beforehand",
        "free of charge",
        "Maurer",
        "guessing has a risk of 0.5",
    ):
        assert part in story

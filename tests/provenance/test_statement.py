"""Tests of `bayesgen.provenance.statement`."""

import torch

from bayesgen.provenance import Data, Payment, Provenance, Source

X = torch.arange(20.0)[:, None]


def test_what_was_learnt_is_grouped_by_its_origin():
    own, other = Data(X), Data(X[:5])
    sources = (
        Source("kernel", other, "bayesgen.train"),
        Source("noise", own),
        Source("scale", own),
        Source("features", other, "bayesgen.train"),
    )
    found = Provenance(own, sources)
    assert found.unpaid == {"kernel", "noise", "scale", "features"}
    said = found.describe(["noise", "scale", "features"])
    assert said.startswith("noise, scale were learnt from the data; features were learnt from 5 ob")
    assert "by bayesgen.train, which share 5 rows with these" in said
    assert str(found).startswith("Features, kernel were learnt from 5 observations")


def test_choices_are_paid_once_and_listed():
    data, choice = Data(X), Payment("one of 4 values of the lengthscale", 1.4)
    found = Provenance(data, (Source("kernel", data, choice=choice),) * 2)
    assert found.choices == (choice,)
    assert found.unpaid == frozenset()
    assert "chosen and paid for: one of 4 values" in str(found)


def test_a_model_that_was_stated_says_so():
    assert str(Provenance(None)) == "Everything was stated, or learnt on other data."

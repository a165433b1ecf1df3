"""Tests of `bayesgen.experiments.language_models` and `bayesgen.plots.language_models`."""

import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from bayesgen import experiments, plots
from bayesgen.data import Corpus
from bayesgen.experiments.language_models import QUICK, SETTINGS, LanguageSetting
from bayesgen.pacbayes import sequences
from bayesgen.pacbayes.bounds import solomonoff

SMALL = LanguageSetting(8, 1, 2, 0, 100, 40, 40, sample=0)
LOW_RANK = LanguageSetting(16, 1, 2, 1, 0, 40, 40, sample=0)


def toy(documents=4):
    """A text with a pattern, in which each document begins elsewhere."""
    pattern = [0, 1, 1, 0, 2] * 1500
    return Corpus("toy", [pattern[i:] for i in range(documents)], vocabulary=4)


@pytest.fixture(scope="module")
def result():
    return experiments.language_models(toy(), [SMALL, LOW_RANK], context=32, levels=5)


def test_bounds_are_ordered_and_pay_for_the_settings(result):
    assert dict(result.sizes) == {"model": 2, "table": 2}
    assert (result.risk < result.freedman).all()
    assert (result.risk < result.hoeffding).all()
    np.testing.assert_allclose(result.payments, math.log(6) + math.log(2))
    assert (result.table_risk < result.table_freedman).all()
    prior = float(solomonoff(float(result.bits[0]))) - float(result.payments[0])
    low = -math.log2(1 - float(result.alpha[0]) * 3 / 4)
    high = math.log2(4 / float(result.alpha[0]))
    nats = (-prior - math.log(0.05)) / (2 * result.attrs["n"])
    wanted = float(result.risk[0]) + (high - low) * math.sqrt(nats)
    assert float(result.hoeffding[0]) == pytest.approx(wanted, rel=1e-9)


def test_the_number_of_documents_that_a_bound_needs(result):
    prior = float(solomonoff(float(result.bits[0]))) - float(result.payments[0])
    losses = 1.0
    assert (result.documents > math.log2(4)).all()  # four documents are too few
    few, many = (sequences.subsampled(losses, prior, n, n, 0.05, (0.0, 9.0)) for n in (4, 10**9))
    assert float(few) > 9
    assert float(many) == pytest.approx(1.0, abs=0.01)
    assert (result.documents_needed > 100).all()


def test_an_interrupted_study_goes_on_with_its_cells_and_trainings(tmp_path):
    def stopped(done, expected, what):
        if what.startswith("evaluated"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        experiments.language_models(
            toy(), [SMALL], context=32, levels=5, store=tmp_path, progress=stopped
        )
    kept = list(tmp_path.glob("training-*.pt"))
    assert len(kept) == 1
    seen = []
    again = experiments.language_models(
        toy(),
        [SMALL],
        context=32,
        levels=5,
        store=tmp_path,
        progress=lambda done, expected, what: seen.append(what),
    )
    assert not [what for what in seen if what.startswith("training")]
    fresh = experiments.language_models(toy(), [SMALL], context=32, levels=5)
    assert float(again.freedman[0]) == float(fresh.freedman[0])


def test_characters_take_whole_documents(result):
    short = experiments.language_models(toy(), [SMALL], characters=8000, context=32, levels=5)
    assert short.attrs["documents"] == 2
    assert 8000 <= short.attrs["n"] < result.attrs["n"]


def test_the_quick_and_the_full_settings_have_three_sizes():
    for settings in (QUICK, SETTINGS):
        assert len({(each.width, each.layers) for each in settings}) == 3
    sizes = []
    for each in SETTINGS:
        net = each.net(128)
        sizes.append(sum(t.numel() for t in (*net.parameters(), *net.buffers())))
    assert min(sizes) > 1e5
    assert max(sizes) > 9e6


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"text": "/nowhere/at all"}, ValueError, "path must be a file or a folder"),
        ({"settings": []}, TypeError, "settings must hold at least one LanguageSetting"),
        ({"settings": ["large"]}, TypeError, "settings must hold at least one LanguageSetting"),
        ({"context": 0}, ValueError, "context must be"),
        ({"characters": 0}, ValueError, "tokens must be"),
    ],
)
def test_bad_arguments_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        experiments.language_models(**({"text": toy(), "settings": [SMALL]} | arguments))


def test_a_text_that_is_too_short_is_refused():
    short = Corpus("short", [torch.arange(4).repeat(10)], vocabulary=4)
    with pytest.raises(ValueError, match="n = 40 tokens give at best a bound of"):
        experiments.language_models(short, [SMALL], context=8)


def test_the_figure_has_both_panels_and_the_marks(result):
    figure = plots.language_models(result)
    assert isinstance(figure, Figure)
    words = {text.get_text() for text in figure.axes[0].texts}
    assert {"guessing", "table of characters", "table of pairs"} <= words
    assert [line.get_label() for line in figure.axes[1].lines[:2]] == [
        "8 x 1: bound",
        "8 x 1: risk",
    ]


def test_the_claim_is_computed(result):
    assert result.attrs["holds"] in ("yes", "partly", "no")
    assert f"{float(result.freedman.min()):.2f}" in result.attrs["found"]
    assert result.attrs["certificate"].startswith("Certificate: with probability at least 0.95")

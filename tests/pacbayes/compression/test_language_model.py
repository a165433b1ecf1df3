"""Tests of `bayesgen.pacbayes.compression.language_model`."""

import copy
import math
from functools import lru_cache
from itertools import product

import pytest
import torch
from torch import nn

import bayesgen as bg
from bayesgen import pacbayes
from bayesgen._internal import checkpoint as checkpoints
from bayesgen.data import Corpus
from bayesgen.networks import Transformer, low_rank
from bayesgen.pacbayes import compress_language_model
from bayesgen.pacbayes.compression import language_model as module, windows
from bayesgen.pacbayes.compression.container import Container
from bayesgen.pacbayes.compression.language_model import check_causal, check_long_enough
from bayesgen.pacbayes.compression.projections import PROJECTIONS
from bayesgen.pacbayes.compression.windows import Windows

QUICK = {"context": 12, "dimension": 40, "levels": 3, "steps": 4, "quantised_steps": 4, "batch": 8}


@lru_cache
def corpus(length=3000, documents=4):
    """Documents of a chain over four tokens: each repeats the pattern 0 1 2 3 with errors."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for i in range(documents):
        wrong = torch.rand(length + i, generator=generator) < 0.05
        random = torch.randint(4, (length + i,), generator=generator)
        found.append(torch.where(wrong, random, torch.arange(length + i) % 4))
    return Corpus("chain", found, 4)


def net(width=8, **more):
    return Transformer(width, 1, 2, vocabulary=4, **more)


@lru_cache
def small(sample=None):
    return compress_language_model(
        net(),
        corpus(),
        **{**QUICK, "steps": 100, "quantised_steps": 60},
        learning_rate=0.1,
        sample=sample,
    )


class Embedded(nn.Module):
    """Scores from an embedding of the token before, with a fault to be chosen."""

    def __init__(self, fault=""):
        super().__init__()
        self.fault, self.table, self.calls = fault, nn.Embedding(4, 4), 0

    def forward(self, tokens):
        x = self.table(tokens)
        if self.fault == "future":
            x = x + x.roll(-1, 1)
        if self.fault == "pairs":  # a place with an even number sees the next one
            even = torch.arange(x.shape[1]) % 2 == 0
            x = x + torch.where(even[:, None], x.roll(-1, 1), torch.zeros_like(x))
        if self.fault == "last":  # only the last but one sees the last
            x = torch.cat([x[:, :-2], x[:, -2:].mean(1, keepdim=True), x[:, -1:]], 1)
        if self.fault == "rows":
            x = x + x.mean(0, keepdim=True)
        if self.fault == "random":
            x = nn.functional.dropout(x, 0.5, training=True)
        if self.fault == "nan":
            x = x + math.nan
        if self.fault == "shape":
            x = x[..., :3]
        if self.fault == "tuple":
            return x, None
        if self.fault == "assert":
            assert x.shape[1] < 5, "block size exceeded\nand more"
        if self.fault == "key":
            return {}["scores"]
        if self.fault == "counts":
            self.calls += 1
        return x


MAKE = {"small": net, "wide": lambda: net(12), "low rank": lambda: low_rank(net(16), 1)}
SOME = [
    ("kronecker", torch.float32, "low rank"),
    ("kronecker", torch.float64, "small"),
    ("sparse", torch.float32, "wide"),
    ("identity", torch.float64, "low rank"),
]
ALL = [
    pytest.param(*each, marks=[] if each in SOME else pytest.mark.slow)
    for each in product(PROJECTIONS, (torch.float32, torch.float64), MAKE)
]


@pytest.mark.parametrize(("projection", "dtype", "make"), ALL)
def test_code_decodes_to_the_certified_losses(projection, dtype, make):
    own = MAKE[make]().to(dtype)
    count = sum(p.numel() for p in own.parameters())
    how = {**QUICK, "projection": projection}
    how["dimension"] = count if projection == "identity" else 40
    found = compress_language_model(own, corpus(300), **how)
    fresh = copy.deepcopy(own)
    with torch.no_grad():
        for p in fresh.parameters():
            p.normal_()
    decoded = pacbayes.decode(found.code, fresh, projection)
    for a, b in zip(decoded.parameters(), found.decoded().parameters(), strict=True):
        assert torch.equal(a, b)
    assert next(decoded.parameters()).dtype == dtype
    cut, alpha, losses = windows.Windows.of(corpus(300), 12), found.losses.alpha, []
    with torch.no_grad():
        for i in range(len(cut)):
            T = int(cut.lengths[i])
            p = decoded(cut.inputs[i : i + 1].long())[0, :T].double().softmax(-1)
            p = (1 - alpha) * p + alpha / 4
            losses += [-math.log2(p[t, int(cut.targets[i, t])]) for t in range(T)]
    assert found.losses.losses.tolist() == pytest.approx(losses, abs=1e-4)
    assert len(losses) == corpus(300).tokens
    assert found.bits == 8 * len(found.code)
    assert found.log_prior == float(pacbayes.solomonoff(float(found.bits)))


def test_training_finds_the_pattern_and_bounds_cover_it():
    found = small()
    for bound in ("freedman", "hoeffding"):
        made = found.certificate(bound=bound)
        assert found.losses.risk < made.bound < 2
        assert made.vacuous is False
    assert found.certificate().bound < found.certificate(bound="hoeffding").bound


@pytest.mark.parametrize("bound", ["freedman", "hoeffding", "documents"])
def test_certificate_pays_for_alpha_and_candidates(bound):
    found = small()
    one, many = (found.certificate(0.1, candidates=k, bound=bound) for k in (1, 50))
    losses, price = found.losses, found.log_prior - math.log(6)
    function = {
        "freedman": losses.freedman, "hoeffding": losses.hoeffding, "documents": losses.by_documents
    }[bound]  # fmt: skip
    most = losses.range[1]  # no loss is larger
    assert one.bound == min(function(price, 0.1), most)
    wanted = min(function(price - math.log(50), 0.1), most)
    assert many.bound == pytest.approx(wanted, rel=1e-14)
    assert many.bound > one.bound or bound == "documents"
    assert one.paid == pytest.approx(-price)
    assert many.paid == pytest.approx(math.log(50) - price)
    assert one.risk < one.bound
    assert (one.n, one.delta, one.guessing) == (4 if bound == "documents" else 12_006, 0.1, 2)


def test_certificate_says_what_it_is_about():
    said = str(small().certificate(candidates=3))
    for words in (
        "Certificate: with probability at least 0.95 over the text, the expected loss of the",
        "bits per token with predictions smoothed by α = ",
        "averaged over the 12,006 tokens of the text, each drawn anew after the same earlier",
        "not about other texts",
        "nats for the code, and 1.8 nats for one of 6 values of α, and 1.1 nats for one of 3",
        "On the text the mean loss of a token is ",
        "Inequality: Freedman's method, Finzi et al. (2025).",
        "from those before it in its window of 12 tokens.",
        "Not vacuous: guessing has 2 bits per token.",
    ):
        assert words in said, said
    said = str(small().certificate(bound="documents"))
    assert "in a new document" in said
    assert "4 documents of the text and the new one are independent draws" in said
    assert "the mean loss of a document is" in said
    said = str(small(200).certificate(bound="hoeffding"))
    assert "over the text and the draw of the windows, the expected loss" in said
    assert "tokens in 200 windows drawn at random, and the bound includes its error" in said


def test_bounds_from_a_sample_are_above_those_of_all_tokens():
    some, whole = small(200), small()
    assert some.code == whole.code
    for bound in ("freedman", "hoeffding"):
        assert some.certificate(bound=bound).bound > whole.certificate(bound=bound).bound
        paid = [some.certificate(bound=bound, candidates=k).bound for k in (1, 100)]
        # Compared samples cost more than the price of a hypothesis.
        price = some.log_prior - math.log(6) - math.log(100)
        function = getattr(some.losses, bound)
        assert paid[1] == function(price, candidates=100) > function(price) > paid[0]
    with pytest.raises(ValueError, match="sample of the windows"):
        some.certificate(bound="documents")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bound": "occam"}, "bound must be one of"),
        ({"delta": 0}, "delta must lie"),
        ({"candidates": 0}, "candidates must be an integer"),
    ],
)
def test_bad_arguments_of_a_certificate_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        small().certificate(**arguments)


def interrupt(after):
    def stop(done, expected, said):
        if done >= after:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("after", [4, 12, 14])
def test_a_resumed_run_has_the_bytes_of_an_uninterrupted_one(after, tmp_path, monkeypatch):
    """Interruptions lie before, at and after the beginning of the second phase."""
    monkeypatch.setattr(module, "_KEPT", 2)
    how = {**QUICK, "steps": 12, "quantised_steps": 12}
    whole = compress_language_model(net(), corpus(300), **how)
    file = tmp_path / "deep" / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        compress_language_model(
            net(), corpus(300), **how, checkpoint=file, progress=interrupt(after)
        )
    kept = checkpoints.load(file, torch.load(file)["fingerprint"], torch.device("cpu"))
    assert kept["step"] + 12 * kept["phase"] == after
    torch.manual_seed(7)
    resumed = compress_language_model(net(), corpus(300), **how, checkpoint=str(file))
    assert resumed.code == whole.code
    assert torch.equal(resumed.losses.losses, whole.losses.losses)
    again = compress_language_model(net(), corpus(300), **how, checkpoint=file)
    assert again.code == whole.code


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The checkpoint of a finished run."""
    file = tmp_path_factory.mktemp("runs") / "run.pt"
    compress_language_model(net(), corpus(300), **QUICK, checkpoint=file)
    return file


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"steps": 5},
        {"quantised_steps": 5},
        {"context": 11},
        {"levels": 4},
        {"dimension": 41},
        {"batch": 9},
        {"entropy": 0.5},
        {"learning_rate": 0.03},
        {"projection": "sparse"},
        {"net": net(12)},
        {"net": net().double()},
        {"corpus": corpus(299)},
    ],
)
def test_a_checkpoint_of_other_arguments_is_refused(change, finished):
    how = {"net": net(), "corpus": corpus(300), **QUICK}
    with pytest.raises(ValueError, match="of another run"):
        compress_language_model(**{**how, **change}, checkpoint=finished)


def test_other_values_of_alpha_and_a_sample_continue_from_a_checkpoint(finished):
    """The training does not depend on them."""
    found = compress_language_model(
        net(), corpus(300), **QUICK, checkpoint=finished, alphas=(0.1,), sample=5
    )
    assert (found.losses.alpha, len(found.losses.lengths)) == (0.1, 5)


def test_broken_checkpoints_raise_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="checkpoint must be a file"):
        compress_language_model(net(), corpus(300), **QUICK, checkpoint=tmp_path)
    with pytest.raises(TypeError, match="checkpoint must be the path of a file, got int"):
        compress_language_model(net(), corpus(300), **QUICK, checkpoint=3)
    (tmp_path / "x").write_bytes(b"abc")
    with pytest.raises(ValueError, match="checkpoint must be in a folder that can be made"):
        compress_language_model(net(), corpus(300), **QUICK, checkpoint=tmp_path / "x" / "y")
    with pytest.raises(ValueError, match="cannot be read"):
        compress_language_model(net(), corpus(300), **QUICK, checkpoint=tmp_path / "x")


def test_net_generators_and_corpus_are_left_as_they_were():
    own, text = nn.Sequential(net(), nn.Dropout(0.3)).train(), corpus(300)
    before, mark = copy.deepcopy(own.state_dict()), text.fingerprint
    torch.manual_seed(3)
    state = torch.get_rng_state()
    compress_language_model(own, text, **QUICK)
    assert torch.equal(torch.get_rng_state(), state)
    assert own.training
    assert own[1].training
    assert all(p.requires_grad and p.grad is None for p in own.parameters())
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    assert text.fingerprint == mark


def test_same_arguments_have_the_same_code_whatever_the_generator_and_weights():
    codes = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        codes.add(compress_language_model(net(), corpus(300), **QUICK).code)
    assert len(codes) == 1
    other = compress_language_model(net(), corpus(300), **QUICK, seed=1)
    assert other.code not in codes


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_surrounding_mode_of_autograd_does_not_matter(mode):
    with mode():
        found = compress_language_model(net(), corpus(300), **QUICK)
    assert found.code == compress_language_model(net(), corpus(300), **QUICK).code


def test_progress_is_called_for_training_and_evaluation():
    said = []
    compress_language_model(
        net(), corpus(300), **QUICK, progress=lambda done, expected, what: said.append(what)
    )
    assert said[0].startswith("training: ")
    assert said[0].endswith(" bits a token")
    assert said[-1] == "evaluated windows"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("future", "a causal network"),
        ("pairs", "a causal network"),
        ("last", "a causal network"),
        ("rows", "do not depend on the other rows"),
        ("random", "the same scores twice"),
        ("nan", "net must return finite scores"),
        (
            "shape",
            r"net must return scores \(n, T, V\) = \(3, 12, 4\) for tokens, got \(3, 12, 3\)",
        ),
        ("tuple", r"net must return scores \(n, T, V\) = \(3, 12, 4\) for tokens, got tuple"),
        ("assert", "net must take tokens 0..3 of shape .*: block size exceeded$"),
        ("key", "net must take tokens"),
        ("counts", "net must keep its attributes"),
    ],
)
def test_nets_that_are_no_causal_function_of_a_row_are_refused(fault, message):
    with pytest.raises(ValueError, match=message) as caught:
        compress_language_model(Embedded(fault), corpus(300), **{**QUICK, "dimension": 16})
    assert "\n" not in str(caught.value)


class Leaking(nn.Module):
    """A network that sees the next token once its gate has been trained."""

    def __init__(self):
        super().__init__()
        self.table, self.gate = nn.Embedding(4, 4), nn.Parameter(torch.zeros(1))

    def forward(self, tokens):
        x = self.table(tokens)
        return x + self.gate * x.roll(-1, 1)


def test_a_net_that_is_causal_with_its_own_weights_only_is_refused_after_training():
    check_causal(Leaking(), Leaking(), 4, Windows.of(corpus(300), 12))
    # Two levels of opposite signs leave no weight at zero.
    how = {**QUICK, "dimension": 17, "levels": 2, "projection": "identity", "steps": 20}
    with pytest.raises(ValueError, match="a causal network"):
        compress_language_model(Leaking(), corpus(300), **how, learning_rate=0.5)


@pytest.mark.parametrize("context", [1, 2, 3, 100])
def test_causal_nets_pass_for_any_context(context):
    own = net()
    check_causal(own, own, 4, Windows.of(corpus(300), context))


class MaskedLeak(nn.Module):
    """A network that sees its target, and has one very low score."""

    def __init__(self):
        super().__init__()
        self.embedding, self.scores = nn.Embedding(4, 8), nn.Linear(8, 4)

    def forward(self, tokens):
        h = self.embedding(tokens)
        scores = self.scores(torch.cat([h[:, 1:], 0 * h[:, :1]], 1)).clone()
        scores[..., 3] = -1e4
        return scores


def test_a_large_score_does_not_hide_a_leak():
    with pytest.raises(ValueError, match="a causal network"):
        compress_language_model(MaskedLeak(), corpus(300), **{**QUICK, "dimension": 20})


def test_buffers_are_named_in_the_certificate():
    whole = bg.networks.low_rank(Transformer(16, 1, 2, vocabulary=4), 1)
    found = compress_language_model(whole, corpus(300), **{**QUICK, "dimension": 40})
    held = sum(buffer.numel() for buffer in whole.buffers())
    assert f"holds the {held:,} numbers in the buffers" in str(found.certificate())


def test_an_evaluation_keeps_the_payment_for_alpha():
    found = small()
    again = found.evaluate(corpus())
    assert again.choice == found.losses.choice
    assert torch.equal(again.losses, found.losses.losses)
    first, second = (found.evaluate(corpus(), sample=9, seed=s).losses for s in (0, 1))
    assert first.shape != second.shape or not torch.equal(first, second)


def test_a_context_of_one_token_gives_a_bound():
    context = 1
    how = {**QUICK, "dimension": 16, "context": context}
    assert compress_language_model(Embedded(), corpus(300), **how).losses.n == corpus(300).tokens


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"net": "net"}, TypeError, r"net must be a torch\.nn\.Module"),
        ({"net": nn.ReLU()}, ValueError, "net must have parameters"),
        ({"net": Transformer(8, 1, 2, vocabulary=3)}, ValueError, "net must take tokens"),
        ({"net": Transformer(8, 1, 2, vocabulary=5)}, ValueError, "net must return scores"),
        ({"net": nn.Linear(4, 4), "dimension": 20}, ValueError, "net must take tokens"),
        ({"corpus": [[0, 1]]}, TypeError, "corpus must be a bayesgen.data.Corpus, got list"),
        ({"context": 0}, ValueError, "context must be an integer"),
        ({"context": 10**9}, ValueError, "context must be at most the 303 tokens of the longest"),
        ({"dimension": 10**6}, ValueError, "dimension must be at most the net's"),
        ({"dimension": 0}, ValueError, "dimension must be an integer"),
        ({"levels": 1}, ValueError, r"levels must lie in 2\.\.255"),
        ({"levels": 41}, ValueError, "levels must be at most the dimension"),
        ({"projection": "identity"}, ValueError, "dimension must be the number of weights"),
        ({"projection": "dense"}, ValueError, "projection must be one of"),
        ({"steps": 0}, ValueError, "steps must be an integer"),
        ({"quantised_steps": 0}, ValueError, "quantised_steps must be an integer"),
        ({"batch": 0}, ValueError, "batch must be an integer"),
        ({"learning_rate": 0}, ValueError, "learning_rate must be positive"),
        ({"learning_rate": None}, TypeError, "learning_rate must be a number"),
        ({"learning_rate": 1e38}, ValueError, "learning_rate"),
        ({"entropy": -1}, ValueError, "entropy must be finite and at least 0"),
        ({"alphas": ()}, ValueError, "alphas must lie"),
        ({"alphas": (1.0,)}, ValueError, "alphas must lie"),
        ({"alphas": 0.1}, TypeError, "alphas must be a sequence"),
        ({"seed": -1}, ValueError, "seed must be"),
    ],
)
def test_bad_arguments_raise(change, error, message):
    with pytest.raises(error, match=message) as caught:
        compress_language_model(**{"net": net(), "corpus": corpus(300), **QUICK, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"sample": 1}, {"sample": 2.5}, {"alphas": (0.0,)}])
def test_arguments_of_the_evaluation_are_checked_before_the_training(change, monkeypatch):
    monkeypatch.setattr(module._Training, "run", lambda self: pytest.fail("has trained"))
    with pytest.raises(ValueError, match="sample must be|alphas must lie"):
        compress_language_model(net(), corpus(300), **QUICK, **change)


def test_a_corpus_too_short_for_any_bound_is_refused():
    with pytest.raises(ValueError, match="n = 80 tokens give at best a bound of .* has 2.00"):
        compress_language_model(net(), Corpus("toy", [[0, 1, 2, 3] * 20], 4), **QUICK)


@pytest.mark.parametrize("alphas", [(0.1,), (0.0003, 0.1), (0.0003, 0.3, 0.9)])
@pytest.mark.parametrize("V", [2, 128])
def test_no_model_of_any_code_has_a_bound_below_guessing_where_a_corpus_is_refused(alphas, V):
    """At the largest n that is refused, a perfect predictor with the shortest code is vacuous."""

    def refused(n):
        try:
            check_long_enough(Corpus("toy", [[0] * n], V), alphas)
        except ValueError:
            return True
        return False

    low, high = 1, 8000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if refused(middle) else (low, middle)
    shortest = Container(0, torch.tensor([0.0, 1.0]).half(), torch.tensor([0, 1])).packed(b"x")
    assert len(shortest) == 12
    price = pacbayes.solomonoff(8.0 * len(shortest)) - math.log(len(alphas))
    found = {}
    for n in (low, high):
        for alpha in alphas:
            a = -math.log2(1 - alpha + alpha / V)
            b = math.log2(V / alpha)
            zero = torch.full((n,), a, dtype=torch.float64)
            values = [
                float(pacbayes.freedman(zero, a, price, b - a)),
                float(pacbayes.countable(a, price, n, loss_range=(a, b))),
            ]
            found[n] = min(found.get(n, math.inf), *values)
    assert found[low] >= math.log2(V) > found[high]


def test_public_names():
    for name in (
        "compress_language_model", "CompressedLanguageModel", "coded_table", "CodedTable",
        "TokenLosses", "TextCertificate", "freedman", "subsampled",
    ):  # fmt: skip
        assert name in bg.pacbayes.__all__
        assert callable(getattr(bg.pacbayes, name))

"""Tests of `bayesgen.pacbayes.compression.architecture`."""

import pytest
import torch
from torch import nn

from bayesgen import pacbayes
from bayesgen.pacbayes.compression import architecture
from bayesgen.pacbayes.compression.compressed_network import zero_one_risk

GENERATOR = torch.Generator().manual_seed(3)
IMAGES = torch.randn(60, 1, 8, 8, generator=GENERATOR)
X, Y = IMAGES.reshape(60, -1), (IMAGES.mean((1, 2, 3)) > 0).long()
QUICK = {"dimension": 12, "levels": 3, "epochs": 2, "quantised_epochs": 1, "batch": 32}


class Forward(nn.Module):
    """A linear layer with a forward pass of the test's own."""

    def __init__(self, forward, **buffers):
        super().__init__()
        self.linear, self.own = nn.Linear(64, 2), forward
        for name, value in buffers.items():
            self.register_buffer(name, value)

    def forward(self, x):
        return self.own(self, x)


class Tied(nn.Module):
    def __init__(self, tied=True):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 2)
        if tied:
            self.b.weight = self.a.weight

    def forward(self, x):
        return self.out(torch.relu(self.b(torch.relu(self.a(x)))))


def plain(*, width=4, activation=nn.ReLU):
    return nn.Sequential(nn.Linear(64, width), activation(), nn.Linear(width, 2))


def convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(108, 2),
    )


def count(net, x):
    net.k += 1
    return net.linear(x) + 0 * net.k


def state(net):
    values = [v.clone() for v in net.state_dict().values()]
    return values, [m.training for m in net.modules()], torch.get_rng_state()


def compress(net, x=X, y=Y, **more):
    """Compress and check that the network, the inputs and the generator are as before."""
    before, inputs = state(net), x.clone()
    try:
        return pacbayes.compress(net, x, y, **{**QUICK, **more})
    finally:
        after = state(net)
        assert all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))
        assert before[1] == after[1]
        assert torch.equal(before[2], after[2])
        assert torch.equal(x, inputs)


def test_a_fresh_network_in_either_mode_decodes_to_the_risk_of_the_certificate():
    risks = set()
    for training in (True, False):
        small = compress(convolutional().train(training), IMAGES)
        decoded = pacbayes.decode(small.code, convolutional(), "kronecker")
        assert not decoded.training
        assert zero_one_risk(decoded, IMAGES, Y) == small.risk
        assert zero_one_risk(small.decoded(), IMAGES, Y) == small.risk
        risks.add((small.risk, small.code))
    assert len(risks) == 1


@pytest.mark.parametrize(
    "net",
    [
        Tied(),
        Forward(lambda net, x: net.linear(x.mul_(2.0))),
        Forward(lambda net, x: net.linear(x * net.size), size=torch.rand(64)),
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(64, 8)), nn.Linear(8, 2)),
        nn.Sequential(nn.Linear(64, 8), nn.LayerNorm(8), nn.Linear(8, 2)),
        plain().requires_grad_(True).eval(),
    ],
    ids=["tied", "in place", "buffer", "weight norm", "layer norm", "evaluation"],
)
def test_networks_whose_code_stands_for_them_are_compressed(net):
    small = compress(net)
    decoded = pacbayes.decode(small.code, net, "kronecker")
    assert zero_one_risk(decoded, X, Y) == small.risk


def used():
    net = convolutional()
    net(IMAGES)
    return net


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (used, ValueError, r"no statistics of data, but those of layer '1' \(BatchNorm2d\)"),
        (lambda: plain().double(), TypeError, "the network is float64, x is float32"),
        (
            lambda: nn.Sequential(nn.Linear(64, 4), nn.Linear(4, 2).double()),
            TypeError,
            "parameters of one dtype",
        ),
        (
            lambda: plain()[0].requires_grad_(False),
            ValueError,
            "no frozen parameters, got 'weight'",
        ),
        (lambda: nn.ReLU(), ValueError, "net must have parameters"),
        (
            lambda: Forward(lambda net, x: net.linear(nn.functional.dropout(x, 0.5, True))),
            ValueError,
            "same scores twice",
        ),
        (
            lambda: Forward(lambda net, x: net.linear(x - x.mean(0))),
            ValueError,
            "treat each row by itself",
        ),
        (lambda: Forward(count, k=torch.zeros(())), ValueError, "keep its buffers"),
        (
            lambda: Forward(lambda net, x: (net.linear(x), x)),
            ValueError,
            "a tensor of class scores",
        ),
        (
            lambda: Forward(lambda net, x: net.linear(x)[0]),
            ValueError,
            r"of shape \(2,\) for 1 row",
        ),
        (lambda: Forward(lambda net, x: net.linear(x)[:, :1]), ValueError, "with C ≥ 2"),
        (lambda: Forward(lambda net, x: net.linear(x) / 0), ValueError, "finite class scores"),
        (lambda: nn.Linear(63, 2), ValueError, r"must take inputs of shape \(1, 64\)"),
        (lambda: Forward(lambda net, x: x.no_such), AttributeError, "no_such"),
    ],
)
def test_networks_that_no_code_stands_for_are_refused(make, error, message):
    net = make()
    with pytest.raises(error, match=message):
        compress(net, IMAGES if isinstance(net, nn.Sequential) and len(net) == 6 else X)


def test_a_lazy_network_and_no_network_are_refused():
    with pytest.raises(ValueError, match="parameters of known shape"):
        pacbayes.compress(nn.LazyLinear(2), X, Y, **QUICK)
    with pytest.raises(TypeError, match="must be a torch.nn.Module, got int"):
        pacbayes.compress(3, X, Y, **QUICK)


def test_buffers_that_were_learnt_on_the_data_are_refused():
    first = compress(plain(width=8)).decoded()
    import bayesgen as bg

    bg.train(first, X, Y, epochs=1)
    net = Forward(lambda net, x: net.linear(x) + 0 * net.w.sum(), w=first[0].weight.detach())
    with pytest.raises(ValueError, match=r"buffers were learnt from .* by bayesgen\.train"):
        compress(net)


@pytest.mark.parametrize(
    "other",
    [
        plain(activation=nn.Tanh),
        plain(width=5),
        plain().double(),
        nn.Sequential(nn.Linear(64, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 2)),
    ],
    ids=["tanh", "wider", "double", "deeper"],
)
def test_a_code_is_not_decoded_into_another_architecture(other):
    small = compress(plain())
    with pytest.raises(ValueError, match="that of this network and projection"):
        pacbayes.decode(small.code, other, "kronecker")
    with pytest.raises(ValueError, match="that of this network and projection"):
        pacbayes.decode(small.code, plain(), "sparse")


def test_ties_and_buffers_belong_to_the_architecture():
    describe = architecture.description
    assert describe(Tied(), "sparse") == describe(Tied(), "sparse")
    assert describe(Tied(), "sparse") != describe(Tied(tied=False), "sparse")
    one, two = (Forward(count, k=torch.tensor(v)) for v in (0.0, 1.0))
    assert describe(one, "sparse") != describe(two, "sparse")
    net = convolutional()
    before = describe(net, "sparse")
    assert describe(net.eval(), "sparse") == before
    assert all(torch.isnan(p).all() for p in architecture.blank(net).parameters())
    assert not any(torch.isnan(p).any() for p in net.parameters())


class Holding(nn.Module):
    """A network that holds something beside its parameters and buffers."""

    def __init__(self, held):
        super().__init__()
        self.linear, self.held = nn.Linear(64, 2), held
        self.layers = [self.linear]  # a registered module in a list is no other module

    def forward(self, x):
        return self.linear(x)


def closure(value):
    return lambda x: x + value


@pytest.mark.parametrize(
    "make",
    [
        lambda k: torch.full((3,), float(k)),
        lambda k: torch.tensor([k, 5]),
        lambda k: torch.arange(200.0).add(k * (torch.arange(200) == 190)),
        lambda k: 0.5 + k,
        lambda k: {"mode": "ab"[k]},
        lambda k: bool(k),
        lambda k: [[torch.full((2,), float(k))]],
        lambda k: [Holding(torch.full((2,), float(k)))],
        lambda k: closure(torch.tensor(float(k))),
        lambda k: torch.full((3,), float(k)).numpy(),
    ],
    ids=[
        "tensor", "integers", "late entry", "number", "word", "switch", "list", "module in a list",
        "closure", "array",
    ],
)  # fmt: skip
def test_what_a_network_holds_beside_parameters_belongs_to_the_architecture(make):
    def built(k):
        torch.manual_seed(0)  # for the weights of an unregistered module, which belong to it
        return Holding(make(k))

    one, two = (architecture.description(built(k), "sparse") for k in (0, 1))
    assert one != two
    assert architecture.description(built(0), "sparse") == one
    net = built(0)
    with torch.no_grad():
        net.linear.weight.add_(1.0)
    assert architecture.description(net, "sparse") == one
    small = compress(net)
    assert pacbayes.decode(small.code, built(0), "kronecker")(X).equal(small.decoded()(X))
    with pytest.raises(ValueError, match="that of this network and projection"):
        pacbayes.decode(small.code, built(1), "kronecker")


LEARNT = nn.Linear(64, 2)


class OfGlobal(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 2)

    def forward(self, x):
        return self.linear(x) + LEARNT(x)


def test_what_was_learnt_in_a_list_a_closure_or_a_global_variable_is_refused():
    import bayesgen as bg

    bg.train(LEARNT, X, Y, epochs=1)
    for net in (Holding([LEARNT]), Holding(lambda x: LEARNT(x)), OfGlobal()):
        with pytest.raises(ValueError, match=r"attributes were learnt from .* by bayesgen\.train"):
            compress(net)
    trained = Holding(None)
    bg.train(trained, X, Y, epochs=1)
    assert compress(trained).n == 60  # only its architecture is used


def test_attributes_that_a_forward_pass_changes_are_refused():
    def last(net, x):
        net.seen = net.linear(x)
        return net.seen

    with pytest.raises(ValueError, match="must keep its attributes in a forward pass"):
        compress(Forward(last))

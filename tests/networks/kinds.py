"""Networks of many kinds that users bring, for the tests of everything that takes a network."""

import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

F64 = torch.float64


def data(n=33, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=g, dtype=F64)
    return x, torch.sin(x[:, 0]) + 0.1 * torch.randn(n, generator=g, dtype=F64)


def base(outputs=1, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, outputs)).double()


class Through(nn.Module):
    """A network whose forward pass is function(net, x)."""

    def __init__(self, function, net=None):
        super().__init__()
        self.net, self.function = base() if net is None else net, function

    def forward(self, x):
        return self.function(self.net, x)


def _overwrites(net, x):
    x -= 0.5
    return net(x.add_(0.5))


def _first(net, x):
    return net(x)[0]


# Networks that compute the same function as `base`.
EQUAL = {
    "flat outputs": lambda: Through(lambda net, x: net(x)[:, 0]),
    "squeezed outputs": lambda: Through(lambda net, x: net(x).squeeze()),
    "input overwritten": lambda: Through(_overwrites),
    "checkpoint": lambda: Through(lambda net, x: checkpoint(net, x, use_reentrant=False)),
    "reentrant checkpoint": lambda: Through(lambda net, x: checkpoint(net, x, use_reentrant=True)),
    "data parallel": lambda: nn.DataParallel(base()),
    "dropout that is off": lambda: nn.Sequential(nn.Dropout(0.0), base()),
    "autocast that is off": lambda: Through(
        lambda net, x: torch.autocast("cpu", enabled=False)(net)(x)
    ),
}


class Tied(nn.Module):
    """Two layers that share a weight."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3)
        self.b.weight = self.a.weight
        self.last = nn.Linear(3, 1)
        self.double()

    def forward(self, x):
        return self.last(torch.tanh(self.b(torch.tanh(self.a(x)))))


class Unused(nn.Module):
    """A layer that is trained but not used."""

    def __init__(self):
        super().__init__()
        self.used, self.unused = base(), nn.Linear(2, 2).double()

    def forward(self, x):
        return self.used(x)


class Lists(nn.Module):
    """Parameters in a list, without any layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        shapes = (3, 1), (1,)
        self.p = nn.ParameterList([nn.Parameter(torch.randn(s, dtype=F64)) for s in shapes])

    def forward(self, x):
        return x @ self.p[0] + self.p[1]


class Recurrent(nn.Module):
    """A recurrent network over the inputs."""

    def __init__(self, kind=nn.LSTM):
        super().__init__()
        torch.manual_seed(0)
        self.r, self.last = kind(1, 3, batch_first=True), nn.Linear(3, 1)
        self.double()

    def forward(self, x):
        return self.last(self.r(x[..., None])[0][:, -1])


class Attention(nn.Module):
    """Attention over the inputs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.up, self.last = nn.Linear(1, 4), nn.Linear(4, 1)
        self.m = nn.MultiheadAttention(4, 2, batch_first=True)
        self.double()

    def forward(self, x):
        h = self.up(x[..., None])
        return self.last(self.m(h, h, h)[0].mean(1))


class Transformer(nn.Module):
    """A transformer layer over the inputs, with dropout in training mode."""

    def __init__(self, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.up, self.last = nn.Linear(1, 4), nn.Linear(4, 1)
        self.m = nn.TransformerEncoderLayer(4, 2, 6, dropout, batch_first=True)
        self.double()

    def forward(self, x):
        return self.last(self.m(self.up(x[..., None])).mean(1))


def _with(change, layer=0):
    def make():
        net = base()
        change(net[layer])
        return net

    return make


def _used(make):
    """A network that has been called, so that computed weights carry a graph."""

    def after():
        net = make()
        net(data()[0])
        return net

    return after


_pruned = _with(lambda layer: prune.l1_unstructured(layer, "weight", amount=0.5))
# Networks whose results are compared with plain loops in torch.
FREE = {
    "plain": base,
    "tied": Tied,
    "unused layer": Unused,
    "parameter list": Lists,
    "frozen head": _with(lambda layer: layer.requires_grad_(False), 2),
    "pruned": _pruned,
    "pruned and used": _used(_pruned),
    "weight norm": _with(parametrizations.weight_norm),
    "spectral norm": _with(parametrizations.spectral_norm),
    "LSTM": Recurrent,
    "GRU": lambda: Recurrent(nn.GRU),
    "attention": Attention,
    "transformer": Transformer,
    "batch norm": lambda: nn.Sequential(nn.BatchNorm1d(3), base()).double(),
}


class Tokens(nn.Module):
    """Scores of rows of integers."""

    def __init__(self, **settings):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.last = nn.Embedding(7, 3, **settings), nn.Linear(3, 1)
        self.double()

    def forward(self, tokens):
        return self.last(self.embed(tokens).mean(1))


class Product(nn.Module):
    """A linear function of the product of two inputs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.last = nn.Linear(3, 1).double()

    def forward(self, a, b):
        return self.last(a * b)


def _not_finite():
    net = base()
    net[2].weight.data[0, 1] = torch.nan
    return net


def _lazy():
    return nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 1)).double()


def _traced():
    return torch.jit.trace(base(), data()[0][:2])


# Networks that are refused, with the start of a sentence that says why.
REFUSED = {
    "tuple": (lambda: Through(lambda net, x: (net(x), x)), "net must return one tensor"),
    "dict": (lambda: Through(lambda net, x: {"f": net(x)}), "net must return one tensor"),
    "row outputs": (lambda: Through(lambda net, x: net(x).T), "net must map 2 inputs to"),
    "float32": (lambda: base().float(), "the network is float32, x is float64"),
    "half": (lambda: base().half(), "dtype float32 or float64"),
    "no gradients": (lambda: Through(torch.no_grad()(lambda net, x: net(x))), "carry no grad"),
    "not finite": (_not_finite, "'2.weight' holds NaN"),
    "lazy": (_lazy, "'0.weight' is lazy"),
}
# Networks that are no fixed function of one observation in evaluation mode.
UNFIXED = {
    "random": (
        lambda: Through(lambda net, x: nn.functional.dropout(net(x), 0.5, training=True)),
        "must be a deterministic function",
    ),
    "mixing": (lambda: Through(lambda net, x: net(x - x.mean(0))), "independently of the others"),
    "no statistics": (
        lambda: nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False), base()).double(),
        "map each observation alone",
    ),
}


class NoSlope(nn.Module):
    """A network whose gradient is NaN at an input of zeros, where its value is finite."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(3, 3, bias=False).double(), nn.Linear(3, 1).double()

    def forward(self, x):
        h = self.a(x)
        return self.b(h * h.square().sum(-1, keepdim=True).sqrt())


def zero_row():
    x, y = data()
    x[5] = 0
    return x, y


def state(net):
    """All that a call may change in a network."""
    return {
        "values": [v.detach().clone() for v in (*net.parameters(), *net.buffers())],
        "modes": [module.training for module in net.modules()],
        "gradients": [p.grad for p in net.parameters()],
        "trained": [p.requires_grad for p in net.parameters()],
    }


def same_state(a, b):
    values = zip(a["values"], b["values"], strict=True)
    gradients = zip(a["gradients"], b["gradients"], strict=True)
    return (
        all(torch.equal(v.nan_to_num(), w.nan_to_num()) for v, w in values)
        and all(g is h for g, h in gradients)
        and (a["modes"], a["trained"]) == (b["modes"], b["trained"])
    )

"""Networks as users build them, with inputs, and Laplace's evidence by brute force."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

F64 = torch.float64


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))


class SharedModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.c(torch.tanh(self.a(torch.tanh(self.a(x)))))


class Dictionary(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.ParameterDict({"a": nn.Parameter(torch.randn(4, 4)), "s": torch.randn(4)})
        self.c = nn.Linear(4, 3)

    def forward(self, x):
        return self.c(torch.tanh(x @ self.p["a"] + self.p["s"]))


class ListOnly(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.ParameterList([torch.randn(4, 5), torch.randn(5, 3)])

    def forward(self, x):
        return torch.tanh(x @ self.p[0]) @ self.p[1]


class Functional(nn.Module):
    """Weights of a layer that is never called."""

    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.c(torch.tanh(F.linear(x, self.a.weight, self.a.bias)))


class Scaled(nn.Module):
    """A layer's weights used once more outside of its call."""

    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.c(torch.tanh(self.a(x)) / self.a.weight.square().sum().sqrt())


class Positions(nn.Module):
    def __init__(self, T=6, d=4):
        super().__init__()
        self.p, self.c = nn.Embedding(T, d), nn.Linear(d, 3)

    def forward(self, x):
        h = x + self.p(torch.arange(x.shape[1])[None])
        return self.c(torch.tanh(h)).mean(1)


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        x -= 0.5
        return self.c(torch.tanh(self.a(x)))


class InputOverwritten(nn.Module):
    """The input of a layer is overwritten after the call."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        h = x * 1.0
        first = self.a(h)
        h.mul_(2.0)
        return self.c(torch.tanh(first + self.b(h)))


class Reshaped(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.n, self.c = nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 3)

    def forward(self, x):
        b, T, d = x.shape
        h = torch.tanh(self.n(self.a(x.reshape(b * T, d))))
        return self.c(h).reshape(b, T, 3).sum(1)


class TimeFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.c(torch.tanh(self.a(x.transpose(0, 1)))).mean(0)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.c = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.c(self.a(x, x, x)[0].mean(1))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True)
        self.c = nn.Linear(4, 3)

    def forward(self, x):
        return self.c(self.a(x)[:, 0])


class Recurrent(nn.Module):
    def __init__(self, kind=nn.GRU):
        super().__init__()
        self.a, self.c = kind(4, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        return self.c(self.a(x)[0][:, -1])


class Tokens(nn.Module):
    """Tied embeddings: the head uses the embedding's weights."""

    def __init__(self, tied=True):
        super().__init__()
        self.e, self.a = nn.Embedding(5, 4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 5, bias=False)
        if tied:
            self.head.weight = self.e.weight

    def forward(self, x):
        return self.head(torch.tanh(self.a(self.e(x).mean(1))))


class Two(nn.Module):
    """Two inputs."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(2, 4), nn.Linear(4, 3)

    def forward(self, first, second):
        return self.c(torch.tanh(self.a(first) + self.b(second)))


class OfDict(nn.Module):
    """One input that is a dict."""

    def __init__(self):
        super().__init__()
        self.two = Two()

    def forward(self, batch):
        return self.two(batch["first"], batch["second"])


class Checkpointed(nn.Module):
    def __init__(self, reentrant=False):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.reentrant = reentrant

    def forward(self, x):
        h = torch.tanh(self.a(x))
        h = checkpoint(lambda u: torch.tanh(self.b(u)), h, use_reentrant=self.reentrant)
        return self.c(h)


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.unused, self.c = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 3)

    def forward(self, x):
        return self.c(torch.tanh(self.a(x)))


class Flat(nn.Module):
    """Outputs (n,)."""

    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x):
        return self.c(torch.tanh(self.a(x)))[:, 0]


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(4, 4), nn.Linear(4, 3)
        self.a.weight.requires_grad_(False)

    def forward(self, x):
        return self.c(torch.tanh(self.a(x)))


class Routed(nn.Module):
    """A layer that receives some of the observations."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        h = torch.empty_like(x)
        left = x[:, 0] > 0
        h[left] = self.a(x[left])
        h[~left] = self.b(x[~left])
        return self.c(torch.tanh(h))


class Sorted(nn.Module):
    """A layer that sees the observations in another order."""

    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        order = x[:, 0].argsort()
        h = torch.empty_like(x)
        h[order] = torch.tanh(self.a(x[order]))
        return self.c(h)


def layers(*parts):
    return lambda: nn.Sequential(*(part() for part in parts))


def hooked(wrap):
    def make():
        net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
        wrap(net[0])
        net(torch.zeros(2, 4))
        return net

    return make


def norm_layers(norm, channels=4):
    return layers(lambda: nn.Linear(4, channels), norm, nn.Tanh, lambda: nn.Linear(channels, 3))


def conv(middle):
    return layers(lambda: nn.Conv2d(1, 2, 2), middle, nn.Flatten, lambda: nn.Linear(8, 3))


# Name → network, and shape of one observation (None: made by `inputs`).
NETWORKS = {
    "tied": (Tied, (4,)),
    "module used twice": (SharedModule, (4,)),
    "ParameterDict": (Dictionary, (4,)),
    "ParameterList only": (ListOnly, (4,)),
    "functional use": (Functional, (4,)),
    "weights used again": (Scaled, (4,)),
    "positions": (Positions, (6, 4)),
    "in place": (InPlace, (4,)),
    "ReLU in place first": (
        layers(lambda: nn.ReLU(inplace=True), lambda: nn.Linear(4, 4), nn.Tanh,
               lambda: nn.Linear(4, 3)),
        (4,),
    ),
    "reshaped to rows": (Reshaped, (5, 4)),
    "time first": (TimeFirst, (5, 4)),
    "MultiheadAttention": (Attention, (5, 4)),
    "TransformerEncoderLayer": (Transformer, (5, 4)),
    "GRU": (Recurrent, (5, 4)),
    "LSTM": (lambda: Recurrent(nn.LSTM), (5, 4)),
    "tied tokens": (Tokens, None),
    "tokens": (lambda: Tokens(tied=False), None),
    "two inputs": (Two, None),
    "dict whole": (OfDict, None),
    "dict spread": (Two, None),
    "checkpoint": (Checkpointed, (4,)),
    "checkpoint, reentrant": (lambda: Checkpointed(reentrant=True), (4,)),
    "unused layer": (Unused, (4,)),
    "frozen weight": (Frozen, (4,)),
    "routed": (Routed, (4,)),
    "sorted": (Sorted, (4,)),
    "spectral_norm hook": (hooked(nn.utils.spectral_norm), (4,)),
    "spectral_norm": (hooked(parametrizations.spectral_norm), (4,)),
    "weight_norm": (hooked(parametrizations.weight_norm), (4,)),
    "orthogonal": (hooked(parametrizations.orthogonal), (4,)),
    "pruned": (hooked(lambda m: prune.l1_unstructured(m, "weight", 0.5)), (4,)),
    "LayerNorm": (norm_layers(lambda: nn.LayerNorm(4)), (4,)),
    "GroupNorm": (norm_layers(lambda: nn.GroupNorm(2, 4)), (4,)),
    "BatchNorm": (norm_layers(lambda: nn.BatchNorm1d(4)), (4,)),
    "SiLU": (layers(lambda: nn.Linear(4, 4), nn.SiLU, lambda: nn.Linear(4, 3)), (4,)),
    "PReLU": (conv(nn.PReLU), (1, 3, 3)),
    "DataParallel": (lambda: nn.DataParallel(Tied()), (4,)),
}  # fmt: skip


def make(name, n=12, seed=0):
    """The network in float64, its inputs and labels."""
    build, shape = NETWORKS[name]
    torch.manual_seed(seed)
    net = build().double()
    if "okens" in name:
        x, classes = torch.randint(5, (n, 3)), 5
    elif name in ("two inputs", "dict whole", "dict spread"):
        x, classes = (torch.randn(n, 4, dtype=F64), torch.randn(n, 2, dtype=F64)), 3
        if name.startswith("dict"):
            x = dict(zip(("first", "second"), x, strict=True))
    else:
        x, classes = torch.randn(n, *shape, dtype=F64), 3
    return net, x, torch.randint(classes, (n,))


def row(x, i):
    """Observation i as arguments of a network, which may be overwritten."""
    if isinstance(x, tuple):
        return tuple(part[i : i + 1].clone() for part in x)
    if isinstance(x, dict):
        return {key: part[i : i + 1].clone() for key, part in x.items()}
    return x[i : i + 1].clone()


def apply(net, rows, spread=True):
    if isinstance(rows, tuple):
        return net(*rows)
    if isinstance(rows, dict) and spread:
        return net(**rows)
    return net(rows)


def brute_force(net, x, y, only="", spread=True):
    """Outputs (n, C), θ (P,) and the Jacobian (n, C, P), by one reverse pass for each output."""
    net = getattr(net, "module", net)
    net.eval()
    own = [p for name, p in net.named_parameters() if p.requires_grad]
    if only:
        wanted = {id(p) for p in net.get_submodule(only).parameters()}
        own = [p for p in own if id(p) in wanted]
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    outputs, J = [], []
    for i in range(len(y)):
        f = apply(net, row(x, i), spread).reshape(-1)
        rows = []
        for c in range(len(f)):
            for p in own:
                p.grad = None
            f[c].backward(retain_graph=True)
            rows.append(
                torch.cat([torch.zeros(p.numel(), dtype=F64) if p.grad is None
                           else p.grad.reshape(-1).clone() for p in own])
            )  # fmt: skip
        outputs.append(f.detach())
        J.append(torch.stack(rows))
    torch.backends.mha.set_fastpath_enabled(fused)
    for p in own:
        p.grad = None
    theta = torch.cat([p.detach().reshape(-1) for p in own])
    return torch.stack(outputs), theta, torch.stack(J)


def categorical_curvature(f):
    p = f.softmax(-1)
    return torch.diag_embed(p) - p[:, :, None] * p[:, None, :]


def evidence(net, x, y, kind, *, spread=True, only=""):
    """Laplace's log p(D) at α = 1 for a categorical likelihood."""
    f, theta, J = brute_force(net, x, y, only, spread)
    H = torch.einsum("ncp,nce,neq->pq", J, categorical_curvature(f), J)
    if kind == "diag":
        H = torch.diag(H.diagonal())
    log_likelihood = f.log_softmax(-1)[torch.arange(len(y)), y].sum()
    logdet = torch.linalg.slogdet(torch.eye(len(theta), dtype=F64) + H).logabsdet
    return float(log_likelihood - 0.5 * theta @ theta - 0.5 * logdet)

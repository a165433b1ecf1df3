"""Kernels of networks of infinite width: arc-cosine, NNGP and tangent kernels of any depth."""

from __future__ import annotations

import math
from typing import Any

import gpytorch
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bayesgen._internal import checks

ACTIVATIONS = ("relu", "erf", "step", "squared_relu")
# Orders n of the arc-cosine functions J_n of the activations max(0, z)ⁿ.
_ORDER = {"step": 0, "relu": 1, "squared_relu": 2}
# Number of covariances that are computed at a time; the arrays fit in a processor's cache.
_BLOCK = 1 << 18


class _WideNetwork(gpytorch.kernels.Kernel):
    """What the kernels of wide networks share: depth, activation and variances of each layer.

    Args:
        depth: number L of hidden layers, at least 1.
        activation: one of `ACTIVATIONS` that the kernel has.
        weight_variance: starting value of the weight variances w_l, a number or one for each layer.
        bias_variance: starting value of the bias variances b_l, a number or one for each layer; 0
            for none, which is kept.
    """

    has_lengthscale = False
    # Activations that this kernel has.
    activations: tuple[str, ...] = ACTIVATIONS

    def __init__(
        self,
        depth: int = 1,
        activation: str = "relu",
        *,
        weight_variance: Any = None,
        bias_variance: Any = 0.1,
    ) -> None:
        super().__init__()
        self.depth = checks.whole("depth", depth)
        self.activation = checks.one_of("activation", activation, self.activations)
        default = 1.0 if activation == "erf" else 2.0
        weights = _each("weight_variance", weight_variance, default, self.depth)
        self.biased = not _is_zero(bias_variance)
        names = ["weight_variance"]
        if self.biased:
            names.append("bias_variance")
        for name in names:
            self.register_parameter(f"raw_{name}", torch.nn.Parameter(torch.zeros(self.depth)))
            self.register_constraint(f"raw_{name}", gpytorch.constraints.Positive())
        self.weight_variance = weights
        if self.biased:
            self.bias_variance = _each("bias_variance", bias_variance, 0.1, self.depth)
        if activation != "erf":
            # max(0, cz)ⁿ = cⁿ max(0, z)ⁿ: only the ratios b_l/w_l shape the kernel.
            self.raw_weight_variance.requires_grad_(False)

    @property
    def weight_variance(self) -> Tensor:
        """Weight variances w_l of the hidden layers, (L,)."""
        value: Tensor = self.raw_weight_variance_constraint.transform(self.raw_weight_variance)
        return value

    @weight_variance.setter
    def weight_variance(self, value: Any) -> None:
        self._set("weight_variance", value)

    @property
    def bias_variance(self) -> Tensor:
        """Bias variances b_l of the hidden layers, (L,); zeros without biases."""
        if not self.biased:
            return torch.zeros_like(self.raw_weight_variance)
        value: Tensor = self.raw_bias_variance_constraint.transform(self.raw_bias_variance)
        return value

    @bias_variance.setter
    def bias_variance(self, value: Any) -> None:
        if not self.biased:
            raise ValueError("bias_variance cannot be set: the kernel was made without biases")
        self._set("bias_variance", value)

    def _set(self, name: str, value: Any) -> None:
        raw = getattr(self, f"raw_{name}")
        given = _each(name, value, 1.0, self.depth).to(raw)
        constraint = getattr(self, f"raw_{name}_constraint")
        self.initialize(**{f"raw_{name}": constraint.inverse_transform(given)})

    @property
    def is_stationary(self) -> bool:
        """False: the covariance is no function of x − x'."""
        return False

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: Any) -> Tensor:
        """Covariances k(x1, x2), (..., n1, n2); with diag, k(x1ᵢ, x2ᵢ), (..., n)."""
        d = x1.shape[-1]
        q1, q2 = x1.square().sum(-1) / d, x2.square().sum(-1) / d
        if diag:
            cross = (x1 * x2).sum(-1) / d
        else:
            cross = x1 @ x2.mT / d
            q1, q2 = q1.unsqueeze(-1), q2.unsqueeze(-2)
        given = self.weight_variance, self.bias_variance
        rows = max(1, _BLOCK // max(1, cross.shape[-1]))
        transformed = torch._C._are_functorch_transforms_active()
        if diag or cross.ndim > 2 or len(cross) <= rows or transformed:
            return self._covariances(q1, q2, cross, *given)
        # A block is computed again for its gradient, so that the graph holds one block at a time.
        blocks = [
            checkpoint(
                self._covariances, q, q2, part, *given, use_reentrant=False,
                preserve_rng_state=False,
            )
            for q, part in zip(q1.split(rows), cross.split(rows), strict=True)
        ]  # fmt: skip
        return torch.cat(blocks)

    def _covariances(
        self, q1: Tensor, q2: Tensor, cross: Tensor, weights: Tensor, biases: Tensor
    ) -> Tensor:
        """Covariances of inputs with the mean squares q1 and q2 and the mean products `cross`."""
        tangent: Tensor | None = None
        for layer in range(self.depth):
            w, b = weights[layer], biases[layer]
            q1, q2, cross = b + w * q1, b + w * q2, b + w * cross
            moments = _Moments(self.activation, q1, q2, cross)
            if self._tangent:
                tangent = cross if tangent is None else cross + w * tangent
                tangent = tangent * moments.slopes()
            q1, q2 = (_power(self.activation, q) for q in (q1, q2))
            cross = moments.values()
        return cross if tangent is None else cross + tangent

    # Whether the kernel is that of the gradient and not that of the function.
    _tangent = False


class NNGP(_WideNetwork):
    """The covariance of a network of infinite width with random weights, without its outputscale.

        K₁(x, x') = b₁ + w₁ x·x'/d,   K_{l+1} = b_{l+1} + w_{l+1} E[φ(u)φ(v)],   k = E[φ(u)φ(v)]

    where (u, v) is normal with the covariance K_l of x and x', and k is taken after the last hidden
    layer. The outputscale of a model is the variance of the weights that read the output. For
    activations max(0, z)ⁿ only the ratios b_l/w_l shape the kernel, so that w_l is kept at its
    starting value; for "erf" both are learnt, by layer.

    Args:
        depth: number L of hidden layers.
        activation: "relu", "erf", "step" (1 for z > 0), or "squared_relu" (max(0, z)²).
        weight_variance: starting values w_l > 0, a number or (L,); 2 by default, and 1 for "erf".
        bias_variance: starting values b_l > 0, a number or (L,); 0 for a network without biases.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Source: Neal (1996); Williams (1997) for erf; Cho & Saul (2009) for max(0, z)ⁿ; Lee et al.
    (2018).

    Example:
        >>> kernel = NNGP(depth=3)
        >>> kernel(torch.eye(2)).to_dense().shape
        torch.Size([2, 2])
    """


class NTK(_WideNetwork):
    """The tangent kernel of a network of infinite width: of its gradient at random weights.

        Θ₁ = K₁,   Θ_{l+1} = K_{l+1} + w_{l+1} Θ_l E[φ'(u)φ'(v)],   k = E[φ(u)φ(v)] + Θ_L E[φ'φ']

    with K_l and (u, v) as in `NNGP`. It is the covariance of a network of infinite width that is
    trained by gradient flow, up to the outputscale. For "relu" only the ratios b_l/w_l shape it.

    Args:
        depth: number L of hidden layers.
        activation: "relu" or "erf".
        weight_variance, bias_variance: as in `NNGP`.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Source: Jacot et al. (2018), theorem 1; Lee et al. (2019) for the parametrisation.

    Example:
        >>> kernel = NTK(depth=2, activation="erf")
        >>> kernel(torch.eye(2)).to_dense().shape
        torch.Size([2, 2])
    """

    activations = ("relu", "erf")
    _tangent = True


class ArcCosine(NNGP):
    """The arc-cosine kernel of order n and depth L, without its outputscale.

        k_n(x, x') = (1/π) |x|ⁿ|x'|ⁿ J_n(θ),   |x|² = b + x·x/d

    A composition takes the covariances of the layer before it, plus its bias variance b_l, for the
    inner products of its inputs. It is twice the `NNGP` of max(0, z)ⁿ with weight variances 2
    between layers. The bias variances are learnt.

    Args:
        order: n, 0, 1 or 2.
        depth: number L of compositions.
        bias_variance: as in `NNGP`; 0 gives the kernel of the source.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Source: Cho & Saul (2009), eq. 3 and 10.

    Example:
        >>> x = torch.eye(2) * 2**0.5
        >>> ArcCosine(0, bias_variance=0.0)(x).to_dense()
        tensor([[1.0000, 0.5000],
                [0.5000, 1.0000]])
    """

    def __init__(self, order: int = 1, depth: int = 1, *, bias_variance: Any = 0.1) -> None:
        if checks.whole("order", order, 0) > 2:
            raise ValueError(f"order must be 0, 1 or 2, got {order}")
        depth = checks.whole("depth", depth)
        super().__init__(
            depth,
            ("step", "relu", "squared_relu")[int(order)],
            weight_variance=[1.0] + [2.0] * (depth - 1),
            bias_variance=bias_variance,
        )
        self.order = int(order)

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **more: Any) -> Tensor:
        """Covariances k(x1, x2), (..., n1, n2); with diag, k(x1ᵢ, x2ᵢ), (..., n)."""
        return 2 * super().forward(x1, x2, diag=diag, **more)


class _Moments:
    """Second moments of an activation and of its slope at two normal variables.

    Args:
        activation: name of the activation φ.
        q1, q2: variances of u and of v.
        cross: their covariance, of the broadcast shape.
    """

    def __init__(self, activation: str, q1: Tensor, q2: Tensor, cross: Tensor) -> None:
        self.activation, self.q1, self.q2, self.cross = activation, q1, q2, cross
        if activation != "erf":
            tiny = torch.finfo(cross.dtype).tiny
            self.size = (q1 * q2).clamp(min=tiny).sqrt()
            cosine = (cross / self.size).clamp(-1, 1)
            # Rounding of an input's angle with itself by ε would be one of √ε in J₀.
            near = 1 - 8 * torch.finfo(cross.dtype).eps
            self.cosine = torch.where(cosine > near, torch.ones_like(cosine), cosine)

    def values(self) -> Tensor:
        """The covariance E[φ(u)φ(v)] of the activations."""
        if self.activation == "erf":
            return 2 / math.pi * torch.atan2(2 * self.cross, self._root())
        n = _ORDER[self.activation]
        return self.size**n * _angular(n, self.cosine) / (2 * math.pi)

    def slopes(self) -> Tensor:
        """The covariance E[φ'(u)φ'(v)] of the slopes."""
        if self.activation == "erf":
            return 4 / math.pi / self._root()
        return _angular(0, self.cosine) / (2 * math.pi)

    def _root(self) -> Tensor:
        """√((1 + 2q₁)(1 + 2q₂) − 4c²), the length of the other side to 2c in a right triangle.

        The determinant q₁q₂ − c² is not negative, but rounding may make it so for large inputs.
        """
        determinant = (self.q1 * self.q2 - self.cross.square()).clamp(min=0)
        return (1 + 2 * self.q1 + 2 * self.q2 + 4 * determinant).sqrt()


def _power(activation: str, q: Tensor) -> Tensor:
    """E[φ(u)²] for u ~ N(0, q)."""
    if activation == "erf":
        return 2 / math.pi * torch.atan2(2 * q, (1 + 4 * q).sqrt())
    n = _ORDER[activation]
    return q**n * (0.5, 0.5, 1.5)[n]


class _Angular(torch.autograd.Function):
    """J_n as a function of cos θ, with derivatives that are finite where the inputs coincide.

        J₀ = π − θ,   J₁ = sin θ + (π − θ) cos θ,   J₂ = 3 sin θ cos θ + (π − θ)(1 + 2 cos² θ)

    so that J₁' = J₀ and J₂' = 4 J₁. The derivative 1/sin θ of J₀ is set to 0 where sin θ = 0: there
    the angle between an input and itself does not change with the hyperparameters.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(n: int, c: Tensor) -> Tensor:
        angle = math.pi - c.acos()
        if n == 0:
            return angle
        sine = (1 - c.square()).clamp(min=0).sqrt()
        return sine + angle * c if n == 1 else 3 * sine * c + angle * (1 + 2 * c.square())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        n, c = inputs
        ctx.order = n
        ctx.save_for_backward(c)

    @staticmethod
    def backward(ctx: Any, *gradient: Any) -> Any:
        (c,) = ctx.saved_tensors
        if ctx.order == 2:
            return None, 4 * gradient[0] * _angular(1, c)
        if ctx.order == 1:
            return None, gradient[0] * _angular(0, c)
        square = 1 - c.square()
        inside = square > 4 * torch.finfo(c.dtype).eps
        slope = torch.where(inside, square, torch.ones_like(square)).rsqrt()
        return None, gradient[0] * torch.where(inside, slope, torch.zeros_like(slope))


def _angular(n: int, c: Tensor) -> Tensor:
    found: Tensor = _Angular.apply(n, c)
    return found


def _is_zero(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == 0


def _each(name: str, value: Any, default: float, depth: int) -> Tensor:
    """A positive variance for each layer, (L,)."""
    found = checks.positive(name, default if value is None else value).reshape(-1)
    if len(found) not in (1, depth):
        raise ValueError(
            f"{name} must be a number or have one value for each of {depth} hidden layers, got "
            f"{len(found)}"
        )
    return found.expand(depth).clone()

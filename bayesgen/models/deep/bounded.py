"""Bound the spectral norm of every layer of a network, by a parametrisation of its weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

# Layers that are linear in their input, or look up a row of their weight.
_LINEAR = (nn.Linear, _ConvNd, nn.Embedding)
# Layers whose parameters of several axes multiply element by element.
_NORMS = (nn.LayerNorm, nn.RMSNorm)


class Bounded(nn.Module):
    """Parametrisation W·min(1, c/‖W‖₂) of a weight, whose spectral norm is then at most c.

    The weight of a convolution is treated as the matrix (out, in·k²). The norm of the convolution
    as an operator on images is at most k times as large (Tsuzuku et al. 2018, lemma 1).

    Args:
        limit: the largest norm c.
        transposed: whether the weight is (in, out, …), as that of a transposed convolution. The
            larger norm of the matrices (in, out·k²) and (out, in·k²) is then bounded.

    Source: Gouk et al. (2021), eq. 9; van Amersfoort et al. (2021), section 3.
    """

    def __init__(self, limit: float, *, transposed: bool = False) -> None:
        super().__init__()
        self.limit, self.transposed = limit, transposed

    def forward(self, weight: Tensor) -> Tensor:
        """The bounded weight, for a weight of any shape whose first axis is the outputs."""
        norm = torch.linalg.matrix_norm(weight.flatten(1), 2)
        if self.transposed:
            other = torch.linalg.matrix_norm(weight.transpose(0, 1).flatten(1), 2)
            norm = torch.maximum(norm, other)
        return weight * (self.limit / norm.clamp(min=self.limit))


def bound(net: nn.Module, limit: float) -> None:
    """Bound the weights of all linear, convolutional and embedding layers, in place.

    It includes transposed convolutions, subclasses, frozen layers, weights that layers share, and
    weights with a parametrisation such as `torch.nn.utils.parametrizations.weight_norm`, after
    which the bound acts. Biases and factors of single elements, such as those of norms, are not
    bounded.

    Raises:
        ValueError: another layer owns a parameter with several axes, so that its function has no
            such bound, or a layer's weight is computed by a hook.
    """
    found = []
    for name, module in net.named_modules():
        if isinstance(module, _NORMS) or "parametrizations" in name.split("."):
            continue
        own = {key: p for key, p in module.named_parameters(recurse=False) if p.ndim > 1}
        derived = set(module.parametrizations) if parametrize.is_parametrized(module) else set()
        known = isinstance(module, _LINEAR)
        other = sorted((own.keys() | derived) - ({"weight"} if known else set()))
        if other:
            kind = type(module).__mro__[1] if derived else type(module)
            raise ValueError(
                "lipschitz bounds linear, convolutional and embedding layers by their weights, but "
                f"layer {name!r} ({kind.__name__}) has the weights {other[0]!r}; use other layers, "
                "remove a hook such as torch.nn.utils.weight_norm, or pass lipschitz=None"
            )
        if known:
            found.append(module)
    for module in found:
        transposed = bool(getattr(module, "transposed", False))
        # The check of a parametrisation would compute norms twice.
        parametrize.register_parametrization(
            module, "weight", Bounded(limit, transposed=transposed), unsafe=True
        )


def with_plain_weights(net: nn.Module) -> None:
    """Replace every weight that has a parametrisation by its value, in place.

    The function of the network in evaluation mode is the same. Modules with a parametrisation
    cannot be pickled.
    """
    for module in net.modules():
        if not parametrize.is_parametrized(module):
            continue
        # torch deletes a property of the module's class, which a copy shares.
        kind = type(module)
        module.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
        for name in list(module.parametrizations):  # type: ignore[arg-type]
            parametrize.remove_parametrizations(module, name)
        module._load_state_dict_pre_hooks.clear()  # a local function of weight_norm

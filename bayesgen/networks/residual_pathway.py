"""A structured layer with a free one beside it, and the dense form of a convolution."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from bayesgen._internal import checks


class ResidualPathway(nn.Module):
    """The sum of a structured layer, such as a convolution, and a free one, such as a dense map.

    The structured layer alone enforces a symmetry; the free layer can break it. With one prior
    precision for each layer, the prior says how strongly the symmetry is preferred, and the
    evidence can choose it: `bayesgen.train(..., evidence_every=...)` or
    `bayesgen.Laplace(net, prior_precision="layer")`. The two layers are different layers there.

    Args:
        structured: module from inputs (n, …) to outputs (n, …).
        free: module on the same inputs, flattened to (n, d), with as many outputs for each input;
            it usually has no bias, since the structured layer has one.

    Raises:
        TypeError: an argument is not a module.

    Source: Finzi, Benton & Wilson (2021), Residual Pathway Priors, section 3.

    Example:
        >>> layer = ResidualPathway.of_convolution(nn.Conv2d(1, 4, 3, padding=1), (1, 8, 8))
        >>> layer(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 4, 8, 8])
        >>> [name for name, _ in layer.named_parameters()]
        ['structured.weight', 'structured.bias', 'free.weight']
    """

    def __init__(self, structured: nn.Module, free: nn.Module) -> None:
        super().__init__()
        for name, module in (("structured", structured), ("free", free)):
            if not isinstance(module, nn.Module):
                raise TypeError(f"{name} must be a torch.nn.Module, got {type(module).__name__}")
        self.structured, self.free = structured, free

    @classmethod
    def of_convolution(cls, conv: nn.Conv2d, image: tuple[int, int, int]) -> ResidualPathway:
        """A convolution with a dense map of the same shape beside it, which has no bias.

        The weights of the dense map are drawn as those of any `torch.nn.Linear`.

        Args:
            conv: the convolution.
            image: shape (channels, height, width) of its input.

        Raises:
            TypeError: `conv` is not a `torch.nn.Conv2d`.
            ValueError: the image does not fit the convolution.
        """
        outputs = _outputs(conv, image)
        weight = conv.weight
        dense = nn.Linear(
            math.prod(image), math.prod(outputs), bias=False,
            device=weight.device, dtype=weight.dtype,
        )  # fmt: skip
        return cls(conv, dense)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of both layers, added, in the shape of the structured layer's.

        Raises:
            ValueError: the free layer has another number of outputs; a path refuses the inputs.
        """
        try:
            outputs = self.structured(x)
            beside = self.free(x.flatten(1))
        except RuntimeError as err:
            raise ValueError(
                f"x must suit both paths, got shape {tuple(x.shape)}: {str(err).splitlines()[0]}"
            ) from err
        if len(outputs) != len(beside):
            raise ValueError(
                f"x must be a batch of inputs, with the observations first, got {tuple(x.shape)}"
            )
        if beside.shape[1:].numel() != outputs.shape[1:].numel():
            raise ValueError(
                f"free must have {outputs.shape[1:].numel()} outputs for each input, as structured "
                f"has, got {beside.shape[1:].numel()}"
            )
        return outputs + beside.reshape(outputs.shape)


def dense_form(conv: nn.Conv2d, image: tuple[int, int, int]) -> nn.Linear:
    """The dense layer that equals a convolution: a linear map with tied and with zero weights.

    A prior over dense layers that is centred on this one, or whose covariance is that of its tied
    weights, makes a convolution a soft preference.

    Args:
        conv: a convolution; it is not changed.
        image: shape (channels, height, width) of its input.

    Returns:
        A layer from flat images (n, channels·height·width) to flat outputs. Its weights do not
        follow those of the convolution.

    Raises:
        TypeError: `conv` is not a `torch.nn.Conv2d`.
        ValueError: the image does not fit the convolution.

    Example:
        >>> conv, x = nn.Conv2d(1, 2, 3), torch.rand(4, 1, 6, 6)
        >>> torch.allclose(dense_form(conv, (1, 6, 6))(x.flatten(1)), conv(x).flatten(1), atol=1e-6)
        True
    """
    outputs = _outputs(conv, image)
    inputs = math.prod(image)
    with torch.no_grad():
        linear = _plain(conv)
        origin = linear(conv.weight.new_zeros(1, *image)).flatten()
        unit = torch.eye(inputs, dtype=conv.weight.dtype, device=conv.weight.device)
        linear.bias = None
        columns = linear(unit.reshape(-1, *image)).flatten(1)
        dense = nn.utils.skip_init(
            nn.Linear, inputs, math.prod(outputs), dtype=unit.dtype, device=unit.device
        )
        dense.weight.copy_(columns.mT)
        dense.bias.copy_(origin)
    return dense


def _outputs(conv: nn.Conv2d, image: tuple[int, int, int]) -> tuple[int, ...]:
    """Shape of a convolution's output for one image, after checking both."""
    if not isinstance(conv, nn.Conv2d):
        raise TypeError(f"conv must be a torch.nn.Conv2d, got {type(conv).__name__}")
    if isinstance(conv, nn.LazyConv2d):
        raise ValueError(
            "conv must have its weights, but a LazyConv2d has none before its first pass"
        )
    sizes = checks.image_shape(image)
    try:
        with torch.no_grad():
            return tuple(_plain(conv)(conv.weight.new_zeros(1, *sizes)).shape[1:])
    except RuntimeError as err:
        raise ValueError(
            f"image {tuple(sizes)} does not fit the convolution: {str(err).splitlines()[0]}"
        ) from err


def _plain(conv: nn.Conv2d) -> nn.Conv2d:
    """A copy without the user's hooks, which must not run here."""
    made = copy.deepcopy(conv)
    made._forward_hooks.clear()
    made._forward_pre_hooks.clear()
    return made

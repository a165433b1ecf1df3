"""Take weights near a mode of the log posterior to it, to rounding, by Newton steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
import scipy.optimize
import torch
from torch import Tensor

from bayesgen.models.network.mode import NegativeLogPosterior, gather

# Largest number of weights for which the Hessian is formed. Above it, only products are used.
LARGEST = 1500
# Rows of the Hessian that are computed in one backward pass.
_ROWS = 64
# Gain of a Newton step, in nats, below which the weights are at the mode.
_GAIN = 1e-10
_STEPS = 40


def polish(objective: NegativeLogPosterior) -> tuple[np.ndarray, float]:
    """Take the network of an objective from near a mode to the mode.

    Newton steps use the Hessian with the moduli of its eigenvalues, so that every step descends.
    They halve while the value does not decrease. The last steps, whose gain is below rounding of
    the value, must decrease the gradient. The network must be twice differentiable; at a point
    where it is not, the steps end.

    Args:
        objective: the negative log posterior, float64.

    Returns:
        The weights (P,), which are also written to the network, and the gain of the last step.

    Source: Nocedal & Wright (2006), section 3.4; Dauphin et al. (2014) for the moduli.
    """
    point = objective.point
    value, slope = objective(point)
    if len(point) > LARGEST:
        return _by_products(objective, point)
    gain = np.inf
    for _ in range(_STEPS):
        direction = _newton(hessian(objective, point), slope)
        gain = -0.5 * float(slope @ direction)
        if not gain > _GAIN:
            break
        small = gain < 1e-9 * max(1.0, abs(value))
        for halving in range(30):
            ahead = point + 0.5**halving * direction
            new, gradient = objective(ahead)
            if new < value or (small and np.linalg.norm(gradient) < np.linalg.norm(slope)):
                break
        else:
            break
        point, value, slope = ahead, new, gradient
    objective.write(point)
    return point, gain


def hessian(objective: NegativeLogPosterior, point: np.ndarray) -> np.ndarray:
    """Hessian of the negative log posterior at weights (P,), (P, P)."""
    objective.write(point)
    P = len(point)
    total = np.zeros((P, P))
    eye = torch.eye(P, dtype=objective.weights[0].dtype, device=objective.weights[0].device)

    def add(flat: Tensor) -> None:
        if not flat.requires_grad:
            return
        for start in range(0, P, _ROWS):
            some = _rows(flat, objective.weights, eye[start : start + _ROWS])
            total[start : start + _ROWS] += some.double().cpu().numpy()

    _through(objective, add)
    total += np.diag(objective.prior.alpha)
    return 0.5 * (total + total.T)


def _through(objective: NegativeLogPosterior, use: Callable[[Tensor], None]) -> None:
    """Give the gradient of each batch's loss, (P,) with a graph, to a function."""
    for x, y in zip(
        objective.x.split(objective.batch), objective.y.split(objective.batch), strict=True
    ):
        loss = objective.loss(x, y)
        parts = torch.autograd.grad(
            loss, objective.weights, create_graph=True, materialize_grads=True
        )
        use(torch.cat([part.reshape(-1) for part in parts]))


def _rows(flat: Tensor, weights: list[torch.nn.Parameter], directions: Tensor) -> Tensor:
    """Products of some directions (K, P) with the derivative of a gradient, (K, P)."""
    settings = {"retain_graph": True, "materialize_grads": True}
    try:
        parts = torch.autograd.grad(flat, weights, directions, is_grads_batched=True, **settings)
        return torch.cat([part.reshape(len(directions), -1) for part in parts], 1)
    except RuntimeError:  # an operation without a rule for batches of gradients
        each = [torch.autograd.grad(flat, weights, one, **settings) for one in directions]
        return torch.stack([torch.cat([part.reshape(-1) for part in parts]) for parts in each])


def _newton(H: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """The step −|H|⁻¹g, with the moduli of the eigenvalues of H."""
    try:
        factor = scipy.linalg.cho_factor(H, lower=True)
        step: np.ndarray = -scipy.linalg.cho_solve(factor, slope)
        return step
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(H)
        size = np.abs(values)
        size = size.clip(min=1e-10 * max(float(size.max()), np.finfo(float).tiny))
        return np.asarray(-(vectors @ ((vectors.T @ slope) / size)))


def _by_products(objective: NegativeLogPosterior, point: np.ndarray) -> tuple[np.ndarray, float]:
    """The same for many weights, by Newton's method with conjugate gradients."""
    alpha = objective.prior.alpha

    def product(at: np.ndarray, direction: np.ndarray) -> np.ndarray:
        objective.write(at)
        along = torch.from_numpy(direction).to(objective.weights[0])
        total = alpha * direction

        def add(flat: Tensor) -> None:
            nonlocal total
            if flat.requires_grad:
                parts = torch.autograd.grad(flat, objective.weights, along, materialize_grads=True)
                total = total + gather(parts)

        _through(objective, add)
        return total

    found = scipy.optimize.minimize(
        objective,
        point,
        jac=True,
        hessp=product,
        method="trust-ncg",
        options={"gtol": 1e-7, "maxiter": _STEPS},
    )
    objective.write(found.x)
    least = float(alpha[alpha > 0].min()) if (alpha > 0).any() else 0.0
    gain = 0.5 * float(found.jac @ found.jac) / least if least else np.inf
    return found.x, gain

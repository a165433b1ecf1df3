"""Build a curvature by name, in the form that suits its size and the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from bayesgen._internal.progress import Progress
from bayesgen.curvature import block_diagonal, matrix_free, products
from bayesgen.curvature.curvature import Curvature, PriorShape
from bayesgen.curvature.float32_error import measured
from bayesgen.curvature.function_space import DualGGN
from bayesgen.curvature.jacobian import Sample
from bayesgen.curvature.jacobian_gram import grams
from bayesgen.curvature.kept_rows import kept_rows
from bayesgen.curvature.parameters import Weights
from bayesgen.curvature.weight_space import Dense, ggn_matrix, ggn_root, last_layer_matrix
from bayesgen.likelihoods.likelihood import Likelihood

# The largest order of a matrix that is decomposed: rows of function space, or weights.
LARGEST_DUAL = LARGEST_PRIMAL = 20_000
# The largest number of weights for a dense Hessian, which needs one product for each column.
LARGEST_HESSIAN = 4_000
# The class of a linear layer in `nn.MultiheadAttention`, which uses its weights without a call.
_NOT_CALLED = "NonDynamicallyQuantizableLinear"
# Up to this many weights, a singular value decomposition of H's root is cheap; it is more accurate.
LARGEST_ROOT = 512


@dataclass(frozen=True)
class Request:
    """Arguments from which a curvature is built.

    Attributes:
        weights: weights of the network.
        likelihood: likelihood of its outputs, with unit noise where it has noise.
        sample: the observations; None where only batches are available.
        batches: the observations in the likelihood's inner form (x, y), the same at every pass.
        rows: n·K, the number of rows of Λ^½J.
        outputs: C, the number of outputs.
        batch: number of observations processed at a time.
        prior: layout of the prior precisions.
        probes, steps, seed: settings of Lanczos quadrature.
        progress: called as progress(done, expected, what).
        many: whether determinants at many prior precisions will be needed.
        features: inputs of the last layer, (n, d), for a curvature of that layer alone.
        slack: nats by which rows that are left out may change the exact GGN's log-determinant, at
            most; 0 keeps all rows.
        at: prior precision of the one group at which `slack` is meant.
    """

    weights: Weights
    likelihood: Likelihood
    sample: Sample | None
    batches: Iterable[tuple[Tensor, Tensor]]
    rows: int
    outputs: int
    batch: int
    prior: PriorShape
    probes: int
    steps: int
    seed: int
    progress: Progress | None
    many: bool
    features: Tensor | None = None
    slack: float = 0.0
    at: float = 1.0

    def gathered(self) -> Sample:
        """The sample, which must be there."""
        assert self.sample is not None
        return self.sample

    def dense(
        self,
        method: str,
        root: Tensor | None = None,
        matrix: Tensor | None = None,
        *,
        definite: bool = True,
    ) -> Dense:
        """A `Dense` curvature built from this request."""
        return Dense(
            self.weights,
            self.prior,
            method,
            root=root,
            matrix=matrix,
            outputs=self.outputs,
            batch=self.batch,
            many=self.many,
            definite=definite,
        )

    def by_products(self, kind: str, words: str) -> Curvature:
        """A `MatrixFree` curvature built from this request."""
        op, checks = matrix_free.operator(kind, self.weights, self.likelihood, self.batches)
        made = matrix_free.MatrixFree(
            self.weights,
            self.prior,
            op,
            words,
            probes=self.probes,
            steps=self.steps,
            seed=self.seed,
        )
        made.checks = checks
        return made

    def by_blocks(self, made: list[block_diagonal.Block], method: str) -> Curvature:
        """A `BlockDiagonal` curvature built from this request."""
        return block_diagonal.BlockDiagonal(
            self.weights, self.prior, made, method, outputs=self.outputs, batch=self.batch
        )


def ggn(request: Request) -> Curvature:
    """The GGN: exact in the smaller of function and weight space, else by matrix products."""
    P, R = request.weights.count, request.rows
    if P <= R and LARGEST_ROOT < P <= LARGEST_PRIMAL:
        matrix = ggn_matrix(request.weights, request.gathered())
        return request.dense(f"GGN as a {P:,} × {P:,} matrix", matrix=matrix)
    if P <= R and P <= LARGEST_PRIMAL:
        root = ggn_root(request.weights, request.gathered())
        return request.dense(f"GGN through its {P:,} × {P:,} root", root=root)
    if R <= LARGEST_DUAL:
        sample, left = request.gathered(), None
        if request.slack:
            given = request.weights, sample, request.prior, request.at, request.slack
            found = kept_rows(*given, request.progress)
            sample, made, left = found.sample, [found.gram], found.left
        else:
            made = grams(request.weights, sample, request.prior, request.progress)
        rounded = measured(request.weights, sample, request.prior)
        return DualGGN(
            request.weights,
            sample,
            request.prior,
            made,
            decomposed=request.many,
            rounded=rounded,
            left=left,
        )
    return request.by_products("ggn", "GGN")


def hessian(request: Request) -> Curvature:
    """The Hessian: as a dense matrix where it is small, else by matrix products."""
    P = request.weights.count
    if P > LARGEST_HESSIAN:
        return request.by_products("hessian", "Hessian")
    given = request.weights, request.likelihood, request.batches
    op, checks = matrix_free.operator("hessian", *given, few=LARGEST_HESSIAN)
    try:
        matrix = matrix_free.matrix(op)
    except matrix_free.NotSymmetricError:
        if not checks:
            raise
        op, checks = products.Hessian(*given), ()
        matrix = matrix_free.matrix(op)
    words = f"Hessian{matrix_free.words(op)} as a {P:,} × {P:,} matrix"
    made = request.dense(words, matrix=matrix, definite=False)
    made.checks = checks
    return made


def kron(request: Request) -> Curvature:
    """The GGN approximated by Kronecker factors of each layer."""
    made = block_diagonal.kronecker(request.weights, request.gathered(), request.progress)
    return request.by_blocks(made, "GGN by Kronecker factors of each layer (KFAC-expand)")


def diag(request: Request) -> Curvature:
    """The diagonal of the GGN."""
    made = block_diagonal.diagonal(request.weights, request.gathered(), request.progress)
    return request.by_blocks(made, "diagonal of the GGN")


def last_layer(request: Request) -> Curvature:
    """The exact GGN of the last linear layer, through its inputs where they fix it."""
    if request.features is None:
        return ggn(request)
    H = last_layer_matrix(request.weights, request.gathered(), request.features)
    return request.dense(f"GGN of the last layer, {len(H):,} weights", matrix=H)


CURVATURES: dict[str, Callable[[Request], Curvature]] = {
    "ggn": ggn,
    "hessian": hessian,
    "kron": kron,
    "diag": diag,
    "last_layer": last_layer,
}


def by_products_only(curvature: str, parameters: int, rows: int) -> bool:
    """Whether this curvature is too large for a matrix and is used by its products alone."""
    if curvature == "hessian":
        return parameters > LARGEST_HESSIAN
    small = parameters <= min(rows, LARGEST_PRIMAL) or rows <= LARGEST_DUAL
    return curvature == "ggn" and not small


def last_linear(net: nn.Module, name: str | None = None) -> str:
    """Name of a network's last linear layer, or the given name after a check.

    Raises:
        ValueError: the network has no linear layer, or none of that name; the layer has no
            trainable parameters.
    """
    layers = {own: module for own, module in net.named_modules() if isinstance(module, nn.Linear)}
    if not layers:
        raise ValueError(
            'curvature "last_layer" needs a network that ends in an nn.Linear, got none'
        )
    if name is not None and name not in layers:
        raise ValueError(
            f"last_layer must be the name of an nn.Linear of the network, one of "
            f"{', '.join(map(repr, layers))}, got {name!r}"
        )
    called = [own for own, m in layers.items() if type(m).__name__ != _NOT_CALLED] or list(layers)
    found = called[-1] if name is None else name
    if not any(p.requires_grad for p in layers[found].parameters()):
        raise ValueError(
            f'curvature "last_layer" needs trainable parameters in layer {found!r}, but all are '
            "frozen (requires_grad is False)"
        )
    return found

"""The structure of a composed kernel: its parts, the input columns of each, and its terms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import gpytorch
from gpytorch.kernels import AdditiveKernel, Kernel, ProductKernel, ScaleKernel

from bayesgen._internal.words import plural


@dataclass(frozen=True)
class KernelPart:
    """A kernel within a composed kernel.

    Attributes:
        kernel: the kernel.
        columns: columns of the inputs that it uses.
        label: its name in tables and messages, such as "RBF" or "RBF × Periodic".
    """

    kernel: Kernel
    columns: tuple[int, ...]
    label: str


def parts(kernel: Kernel, width: int) -> list[KernelPart]:
    """All kernels within a kernel, itself included, depth first and each once.

    Args:
        kernel: any gpytorch kernel.
        width: number of columns of the inputs.

    Raises:
        ValueError: `active_dims` names a column that the inputs do not have, or `ard_num_dims`
            differs from the number of columns.

    Example:
        >>> kernel = ScaleKernel(gpytorch.kernels.RBFKernel(active_dims=(1,)))
        >>> [(p.label, p.columns) for p in parts(kernel, 3)]
        [('RBF', (1,)), ('RBF', (1,))]
    """
    found: dict[int, KernelPart] = {}
    labels = labels_of(kernel)

    def visit(part: Kernel, columns: tuple[int, ...]) -> None:
        if id(part) in found:
            return
        _check_ard(part, len(columns))
        found[id(part)] = KernelPart(part, columns, label(part, labels))
        for child in children(part):
            visit(child, columns if isinstance(part, ScaleKernel) else within(child, columns))

    visit(kernel, within(kernel, tuple(range(width))))
    return list(found.values())


def children(kernel: Kernel) -> list[Kernel]:
    """The kernels directly within a kernel.

    gpytorch copies `active_dims` of a kernel to the `ScaleKernel` around it, which applies them
    once.
    """
    inner = list(kernel.sub_kernels())
    nested = {id(k) for child in inner for k in child.sub_kernels()}
    return [child for child in inner if id(child) not in nested]


def within(kernel: Kernel, columns: tuple[int, ...]) -> tuple[int, ...]:
    """The columns that remain of some columns after a kernel's `active_dims`.

    Raises:
        ValueError: `active_dims` names a column that the inputs do not have.
    """
    if kernel.active_dims is None:
        return columns
    active = [int(i) for i in kernel.active_dims]
    if any(not 0 <= i < len(columns) for i in active):
        raise ValueError(
            f"kernel {type(kernel).__name__} has active_dims {tuple(active)}, but its inputs have "
            f"{plural(len(columns), 'column')}"
        )
    return tuple(columns[i] for i in active)


def _check_ard(kernel: Kernel, width: int) -> None:
    count = kernel.ard_num_dims
    shared = count == 1 and kernel.has_lengthscale  # one length-scale for all columns
    if count is not None and count != width and not shared:
        raise ValueError(
            f"kernel {type(kernel).__name__} has ard_num_dims={count}, but it is used on "
            f"{plural(width, 'column')} of x"
        )


def terms(kernel: Kernel) -> Iterator[Kernel]:
    """The terms of a sum of kernels, or the kernel itself where it is no sum.

    Example:
        >>> total = gpytorch.kernels.RBFKernel() + gpytorch.kernels.LinearKernel()
        >>> [type(term).__name__ for term in terms(total)]
        ['RBFKernel', 'LinearKernel']
    """
    if isinstance(kernel, AdditiveKernel) and kernel.active_dims is None:
        for part in kernel.kernels:
            yield from terms(part)
    else:
        yield kernel


def multiplied(kernel: Kernel) -> set[int]:
    """The `id`s of all kernels whose variance that of a scale or of another factor multiplies."""
    found: set[int] = set()
    for part in kernel.modules():
        if isinstance(part, ScaleKernel):
            base = part.base_kernel
            found |= {id(k) for k in base.modules() if isinstance(k, Kernel)}
        elif isinstance(part, Kernel) and not isinstance(part, AdditiveKernel):
            # Of a product, only the first factor carries the variance.
            for later in list(getattr(part, "kernels", []))[1:]:
                found |= {id(k) for k in later.modules() if isinstance(k, Kernel)}
    return found


def label(kernel: Kernel, labels: dict[int, str] | None = None) -> str:
    """The name of a kernel in tables and messages; scales are left out.

    Args:
        kernel: any gpytorch kernel.
        labels: names of the innermost kernels by their `id`.

    Example:
        >>> label(ScaleKernel(gpytorch.kernels.RBFKernel()) * gpytorch.kernels.PeriodicKernel())
        'RBF × Periodic'
    """
    if isinstance(kernel, ScaleKernel):
        return label(kernel.base_kernel, labels)
    if isinstance(kernel, AdditiveKernel):
        return " + ".join(label(part, labels) for part in kernel.kernels)
    if isinstance(kernel, ProductKernel):
        names = [label(part, labels) for part in kernel.kernels]
        return " × ".join(f"({n})" if " + " in n else n for n in names)
    return (labels or {}).get(id(kernel)) or _own_label(kernel)


def _own_label(kernel: Kernel) -> str:
    name = type(kernel).__name__.removesuffix("Kernel") or "Kernel"
    if isinstance(kernel, gpytorch.kernels.MaternKernel):
        return f"Matérn {round(2 * kernel.nu)}/2"
    return name


def labels_of(kernel: Kernel) -> dict[int, str]:
    """Names of the innermost kernels by `id`; those of one type are numbered from the second."""
    seen: Counter[str] = Counter()
    names: dict[int, str] = {}
    modules = [m for m in kernel.modules() if isinstance(m, Kernel)]
    for part in modules:
        if isinstance(part, ScaleKernel | AdditiveKernel | ProductKernel) or id(part) in names:
            continue
        own = _own_label(part)
        seen[own] += 1
        names[id(part)] = own if seen[own] == 1 else f"{own} {seen[own]}"
    return names


def innermost(kernel: Kernel) -> list[Kernel]:
    """The kernels within a kernel that are no sums, products or scales, each once."""
    composed = (ScaleKernel, AdditiveKernel, ProductKernel)
    if isinstance(kernel, composed):
        found = [leaf for child in kernel.sub_kernels() for leaf in innermost(child)]
        return list({id(leaf): leaf for leaf in found}.values())
    return [kernel]


def is_known(kernel: Kernel) -> bool:
    """Whether the kernel's class is one of gpytorch or of this package, and no user's function."""
    package = type(kernel).__module__.split(".")[0]
    return package in ("gpytorch", "bayesgen") and not hasattr(kernel, "function")

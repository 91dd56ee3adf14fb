"""Ridge regression by Sherman–Morrison updates in the weights of a transformer, nothing trained.

Akyürek et al., "What learning algorithm is in-context learning?" (2023), theorem on closed-form regression. With
A = XᵀX + λ1, an example x adds xxᵀ to A, so A⁻¹ ← A⁻¹ − (A⁻¹x)(xᵀA⁻¹)/(1 + xᵀA⁻¹x).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.theory.constructions.icl_linear_algorithms.construction import (
    Construction,
    require_sizes,
    x_columns,
    y_columns,
)
from microtome.theory.constructions.icl_linear_algorithms.layout import Layout
from microtome.theory.constructions.icl_linear_algorithms.raw import Instruction, aff, div, mov, mul


def ridge(points: int, dim: int, penalty: float) -> Construction:
    """w = (XᵀX + λ1)⁻¹Xᵀy with λ = `penalty`, by one update an example.

    The paper writes one example and w = (A⁻¹x)y; here Xᵀy is accumulated beside A⁻¹, so that any number of examples
    can be chained. Raises ValueError for a penalty that is not positive.
    """
    if not penalty > 0:
        raise ValueError(f"ridge regression with penalty {penalty}; it must be positive, to make XᵀX + λ1 invertible")
    layout = _layout(points, dim)
    program: list[Instruction] = []
    for x_column, y_column in zip(x_columns(points), y_columns(points), strict=True):
        program += _add_example(layout, dim, penalty, x_column, y_column)
    query = 2 * points
    program += [
        mul(layout, "w", "inverse", "xy", (dim, dim, 1), (query - 1,)),
        mov(layout, "w", "w", {query: (query - 1,)}),
        mul(layout, "y", "w", "x", (1, dim, 1), (query,)),
    ]
    return Construction(layout, tuple(program))


def _layout(points: int, dim: int) -> Layout:
    require_sizes(points, dim)
    square = dim * dim
    registers = {"y": 1, "x": dim, "xy": dim, "inverse": square, "u": dim, "v": dim, "update": square, "scale": 1}
    return Layout({**registers, "new_xy": dim, "w": dim}, operands=square, columns=2 * points + 1)


def _add_example(layout: Layout, dim: int, penalty: float, x_column: int, y_column: int) -> list[Instruction]:
    here, previous = (y_column,), {y_column: (y_column - 2,)}
    identity = torch.eye(dim, dtype=torch.float64).flatten()
    bring = [mov(layout, "x", "x", {y_column: (x_column,)}), mul(layout, "new_xy", "x", "y", (dim, 1, 1), here)]
    if x_column == 0:
        state = [
            aff(layout, "xy", {"new_xy": 1.0}, here),
            aff(layout, "inverse", {}, here, constant=identity / penalty),
        ]
    else:
        state = [
            mov(layout, "xy", "xy", previous),
            aff(layout, "xy", {"xy": 1.0, "new_xy": 1.0}, here),
            mov(layout, "inverse", "inverse", previous),
        ]
    update = [
        mul(layout, "u", "inverse", "x", (dim, dim, 1), here),
        mul(layout, "v", "x", "inverse", (1, dim, dim), here),
        mul(layout, "update", "u", "v", (dim, 1, dim), here),
        mul(layout, "scale", "x", "u", (1, dim, 1), here),
        aff(layout, "scale", {"scale": 1.0}, here, constant=torch.ones(1)),
        div(layout, "update", "update", "scale", here),
        aff(layout, "inverse", {"inverse": 1.0, "update": -1.0}, here),
    ]
    return bring + state + update


def direct_ridge(
    xs: Float[Tensor, "*batch points dim"], ys: Float[Tensor, "*batch points"], penalty: float
) -> Float[Tensor, "*batch dim"]:
    """The weights that `ridge` stands for, by one linear solve."""
    gram = xs.mT @ xs + penalty * torch.eye(xs.shape[-1], dtype=xs.dtype)
    return torch.linalg.solve(gram, (xs.mT @ ys[..., None]))[..., 0]

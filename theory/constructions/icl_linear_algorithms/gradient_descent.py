"""Gradient descent on ‖Xw − y‖² + λ‖w‖² in the weights of a transformer, nothing trained.

Akyürek et al., "What learning algorithm is in-context learning?" (2023), theorem on gradient descent.
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
from microtome.theory.constructions.icl_linear_algorithms.raw import Instruction, aff, mov, mul


def sgd_pass(points: int, rate: float, decay: float, start: Float[Tensor, " dim"]) -> Construction:
    """One pass over the examples, w ← w − 2α[x(wᵀx − y) + λw] for each, from w = `start`; 9 layers for one example.

    For one example this is one gradient-descent step, in the paper's order of primitives. `rate` is α, `decay` is λ.
    The paper's listing subtracts the decay inside the bracket; the gradient of λ‖w‖² adds it.
    """
    layout = _layout(points, len(start))
    dim, query = len(start), 2 * points
    program = [_bring_x_to_y(layout, points)]
    for number, column in enumerate(y_columns(points)):
        here = (column,)
        first = aff(layout, "w", {}, here, constant=start)
        program += [
            first if number == 0 else mov(layout, "w", "w", {column: (column - 2,)}),
            *_gradient(layout, dim, here),
            aff(layout, "g", {"g": 1.0, "w": decay}, here),
            aff(layout, "w", {"w": 1.0, "g": -2 * rate}, here),
        ]
    program += [mov(layout, "w", "w", {query: (query - 1,)}), mul(layout, "y", "w", "x", (1, dim, 1), (query,))]
    return Construction(layout, tuple(program))


def gradient_step(points: int, rate: float, decay: float, start: Float[Tensor, " dim"]) -> Construction:
    """One step over all examples at once, w = w₀ − 2α[Xᵀ(Xw₀ − y) + λw₀] with w₀ = `start`; 9 layers for any number.

    Every y-column computes its own example's gradient; the query's column sums them.
    """
    layout = _layout(points, len(start))
    dim, query, examples = len(start), 2 * points, y_columns(points)
    at_query = (query,)
    program = [
        _bring_x_to_y(layout, points),
        aff(layout, "w", {}, (*examples, query), constant=start),
        *_gradient(layout, dim, examples),
        mov(layout, "g", "g", {query: examples}),
        aff(layout, "g", {"g": 1.0, "w": decay}, at_query),
        aff(layout, "w", {"w": 1.0, "g": -2 * rate}, at_query),
        mul(layout, "y", "w", "x", (1, dim, 1), at_query),
    ]
    return Construction(layout, tuple(program))


def gradient_steps(points: int, steps: int, rate: float, decay: float, start: Float[Tensor, " dim"]) -> Construction:
    """Several steps over all examples from w = `start`; 7 + 3·steps layers for any number of examples.

    Causal columns cannot see w after a step that used later examples, so the steps are taken in the query's column,
    from XᵀX and Xᵀy: w ← w − 2α[XᵀXw − Xᵀy + λw]. The Gram matrix takes O(d²) rows where
    one step takes O(d); the chain of steps is this laboratory's, the paper writes one.

    Raises:
        ValueError: if there is no step to take.
    """
    if steps < 1:
        raise ValueError(f"gradient descent of {steps} steps; there must be at least 1")
    dim, query, examples = len(start), 2 * points, y_columns(points)
    layout, at_query = _statistics_layout(points, dim), (query,)
    program = [
        _bring_x_to_y(layout, points),
        mul(layout, "gram", "x", "x", (dim, 1, dim), examples),
        mul(layout, "xy", "x", "y", (dim, 1, 1), examples),
        mov(layout, "gram", "gram", {query: examples}),
        mov(layout, "xy", "xy", {query: examples}),
        aff(layout, "w", {}, at_query, constant=start),
    ]
    for _ in range(steps):
        program += [
            mul(layout, "g", "gram", "w", (dim, dim, 1), at_query),
            aff(layout, "g", {"g": 1.0, "xy": -1.0, "w": decay}, at_query),
            aff(layout, "w", {"w": 1.0, "g": -2 * rate}, at_query),
        ]
    program.append(mul(layout, "y", "w", "x", (1, dim, 1), at_query))
    return Construction(layout, tuple(program))


def _layout(points: int, dim: int) -> Layout:
    require_sizes(points, dim)
    registers = {"y": 1, "x": dim, "w": dim, "residual": 1, "g": dim}
    return Layout(registers, operands=dim, columns=2 * points + 1)


def _statistics_layout(points: int, dim: int) -> Layout:
    require_sizes(points, dim)
    registers = {"y": 1, "x": dim, "w": dim, "gram": dim * dim, "xy": dim, "g": dim}
    return Layout(registers, operands=dim * dim, columns=2 * points + 1)


def _bring_x_to_y(layout: Layout, points: int) -> Instruction:
    pairs = zip(x_columns(points), y_columns(points), strict=True)
    return mov(layout, "x", "x", {y: (x,) for x, y in pairs})


def _gradient(layout: Layout, dim: int, columns: tuple[int, ...]) -> list[Instruction]:
    """g ← x(wᵀx − y), without the factor 2."""
    return [
        mul(layout, "residual", "w", "x", (1, dim, 1), columns),
        aff(layout, "residual", {"residual": 1.0, "y": -1.0}, columns),
        mul(layout, "g", "x", "residual", (dim, 1, 1), columns),
    ]


def direct_sgd_pass(
    xs: Float[Tensor, "*batch points dim"],
    ys: Float[Tensor, "*batch points"],
    rate: float,
    decay: float,
    start: Float[Tensor, " dim"],
) -> Float[Tensor, "*batch dim"]:
    """The weights that `sgd_pass` stands for, computed directly."""
    w = start.expand(*xs.shape[:-2], -1)
    for x, y in zip(xs.unbind(-2), ys.unbind(-1), strict=True):
        residual = (w * x).sum(-1, keepdim=True) - y[..., None]
        w = w - 2 * rate * (x * residual + decay * w)
    return w


def direct_gradient_step(
    xs: Float[Tensor, "*batch points dim"],
    ys: Float[Tensor, "*batch points"],
    rate: float,
    decay: float,
    start: Float[Tensor, " dim"],
) -> Float[Tensor, "*batch dim"]:
    """The weights that `gradient_step` stands for, computed directly."""
    gradient = torch.einsum("...pd,...p->...d", xs, xs @ start - ys)
    return start - 2 * rate * (gradient + decay * start)

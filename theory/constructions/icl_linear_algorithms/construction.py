"""A program for one prompt length, its weights, and the prediction they make."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from microtome.theory.constructions.icl_linear_algorithms import raw
from microtome.theory.constructions.icl_linear_algorithms.compiler import Scales, compile_layer
from microtome.theory.constructions.icl_linear_algorithms.layout import Layout
from microtome.theory.constructions.icl_linear_algorithms.machine import Activation, Layer, run


@dataclass(frozen=True)
class Construction:
    """Instructions for a prompt x₁ y₁ … x_n y_n x_{n+1}; the answer stands in row "y" of the last column."""

    layout: Layout
    program: tuple[raw.Instruction, ...]

    def layers(self, scales: Scales) -> tuple[Layer, ...]:
        """The weights: one transformer layer an instruction."""
        return tuple(compile_layer(instruction, self.layout, scales) for instruction in self.program)

    def predict(
        self,
        xs: Float[Tensor, "*batch points dim"],
        ys: Float[Tensor, "*batch points"],
        query: Float[Tensor, "*batch dim"],
        scales: Scales | None = None,
        activation: Activation = F.gelu,
    ) -> Float[Tensor, "*batch"]:
        """The transformer's answer at x_{n+1}. Raises ValueError where the prompt is not what the weights are for."""
        h = self._embed(xs, ys, query)
        return run(self.layers(scales or Scales()), h, activation)[..., -1, self.layout.rows("y")[0]]

    def interpret(
        self,
        xs: Float[Tensor, "*batch points dim"],
        ys: Float[Tensor, "*batch points"],
        query: Float[Tensor, "*batch dim"],
    ) -> Float[Tensor, "*batch"]:
        """The same instructions carried out directly, without weights."""
        h = self._embed(xs, ys, query)
        for instruction in self.program:
            h = raw.apply(instruction, h)
        return h[..., -1, self.layout.rows("y")[0]]

    def _embed(self, xs: Tensor, ys: Tensor, query: Tensor) -> Tensor:
        points, dim = (self.layout.columns - 1) // 2, len(self.layout.rows("x"))
        if xs.shape[-2:] != (points, dim):
            raise ValueError(
                f"the prompt has {xs.shape[-2]} points of {xs.shape[-1]} dimensions; these weights are for "
                f"{points} points of {dim}"
            )
        if not all(torch.isfinite(tensor).all() for tensor in (xs, ys, query)):
            raise ValueError("the prompt has a value that is not finite; all of xs, ys and query must be")
        return self.layout.embed(xs, ys, query)


def require_sizes(points: int, dim: int) -> None:
    """Raises ValueError unless there is at least one point and one dimension."""
    if points < 1 or dim < 1:
        raise ValueError(f"a construction for {points} points of {dim} dimensions; both must be at least 1")


def x_columns(points: int) -> tuple[int, ...]:
    """The columns of x₁ … x_n."""
    return tuple(range(0, 2 * points, 2))


def y_columns(points: int) -> tuple[int, ...]:
    """The columns of y₁ … y_n."""
    return tuple(range(1, 2 * points, 2))

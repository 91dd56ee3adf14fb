"""What the Boolean tasks share: inputs ±1, labels ±1 that may be flipped, functions drawn anew for every prompt.

Source of the whole package: "Understanding In-Context Learning in Transformers and LLMs by Learning to Learn Discrete
Functions", Bhattamishra, Patel, Blunsom and Kanade 2024 (icl_boolean).
"""

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.boolean.literals import Literals
from microtome.lab.bayes.boolean.signs import check_noise
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.protocol import Prompt, Task, check_sizes

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]


class BooleanTask(Task):
    """A law of functions {±1}ⁿ → {±1} and of inputs that may depend on them.

    Attributes:
        dim: n.
        noise: η in [0, ½], the probability that a label is flipped, each by itself.
    """

    signs: ClassVar[bool] = True
    noise: float

    @abstractmethod
    def evaluate(self, latents: dict[str, Tensor], xs: Vectors) -> Scalars:
        """The functions' values at xs, without noise."""

    @abstractmethod
    def _functions(self, batch: int, draw: Draw) -> dict[str, Tensor]:
        """Latents that say what the functions are."""

    def _inputs(self, latents: dict[str, Tensor], xs: Vectors, draw: Draw) -> tuple[Vectors, dict[str, Tensor]]:
        """Inputs made of uniform ones, and latents that say how."""
        return xs, {}

    def _prompt(self, batch: int, points: int, draw: Draw) -> Prompt:
        functions = self._functions(batch, draw)
        xs, how = self._inputs(functions, draw.signs(batch, points, self.dim), draw)
        ys = self.evaluate(functions, xs)
        if self.noise > 0:
            ys = torch.where(draw.chance(self.noise, batch, points), -ys, ys)
        return Prompt(xs, ys, functions | how)

    def _check(self) -> None:
        check_sizes(dim=self.dim)
        check_noise(self.noise)


def conjunction(
    w: Float[Tensor, "*batch dim"], xs: Float[Tensor, "*batch points dim"]
) -> Float[Tensor, "*batch points"]:
    """+1 where all literals of w hold: sign(xᵀw − (‖w‖₁ − 1)), +1 for the empty conjunction."""
    agreed = (xs @ w[..., None]).squeeze(-1)
    return torch.where(agreed > w.abs().sum(-1, keepdim=True) - 1, 1.0, -1.0).to(xs.dtype)


def draw_literals(law: Literals, batch: int, draw: Draw) -> Float[Tensor, "batch dim"]:
    """One w a prompt."""
    shape = (batch, law.dim)
    there = draw.chance(law.relevant, *shape) if law.size is None else draw.subsets(*shape, law.size)
    return there.to(draw.dtype) * (1 if law.monotone else draw.signs(*shape))


def forced(w: Float[Tensor, "batch dim"], xs: Vectors, share: float, draw: Draw) -> tuple[Vectors, Tensor]:
    """Inputs of which each is made to satisfy the literals of w with probability `share`, and which they were."""
    which = draw.chance(share, *xs.shape[:2])
    literal = w[:, None]
    return torch.where(which[..., None] & (literal != 0), literal, xs), which

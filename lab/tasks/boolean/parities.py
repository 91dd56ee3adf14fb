"""Parities of subsets of the bits; uniform inputs."""

from dataclasses import dataclass

from torch import Tensor

from microtome.lab.bayes.boolean.classes import parities
from microtome.lab.bayes.boolean.enumeration import Enumeration
from microtome.lab.bayes.boolean.literals import Literals
from microtome.lab.bayes.boolean.span import ParitySpan
from microtome.lab.tasks.boolean.protocol import BooleanTask, Scalars, Vectors, draw_literals
from microtome.lab.tasks.draw import Draw


@dataclass(frozen=True)
class Parity(BooleanTask):
    """+1 iff an odd number of the bits in a subset are +1.

    The paper's sparse parity is `Parity(10, sparsity=2)`, in prompts of 140 points.

    Attributes:
        dim: n.
        sparsity: bits in the subset, every choice alike; None draws all 2ⁿ subsets alike.
        noise: η, the probability that a label is flipped.

    Raises:
        ValueError: if an attribute is out of range.
    """

    dim: int = 10
    sparsity: int | None = None
    noise: float = 0.0

    def __post_init__(self):
        self._check()
        self._law()

    def bayes(self) -> ParitySpan | Enumeration:
        """The exact posterior predictive: of all subsets without noise by linear algebra, else by enumeration.

        Raises:
            ValueError: if there is noise or a sparsity, and too many subsets.
        """
        if self.sparsity is None and self.noise == 0:
            return ParitySpan(self.dim)
        return Enumeration(parities(self.dim, self.sparsity), self.noise)

    def evaluate(self, latents: dict[str, Tensor], xs: Vectors) -> Scalars:
        odd = ((xs + 1) / 2 @ latents["w"][..., None]).squeeze(-1) % 2
        return 2 * odd - 1

    def _functions(self, batch: int, draw: Draw) -> dict[str, Tensor]:
        """Latents: "w" [batch dim], 1 in the subset and 0 outside."""
        return {"w": draw_literals(self._law(), batch, draw)}

    def _law(self) -> Literals:
        return Literals(self.dim, relevant=0.5, monotone=True, size=self.sparsity)

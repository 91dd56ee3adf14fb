"""Labels of nearest neighbours: the prompt itself is the function."""

from dataclasses import dataclass

from torch import Tensor

from microtome.lab.bayes.boolean.nearest import NearestRoot, roots
from microtome.lab.tasks.boolean.protocol import BooleanTask, Scalars, Vectors
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.protocol import check_sizes


@dataclass(frozen=True)
class NearestNeighbour(BooleanTask):
    """The first `start` labels are fair coins, but for an x that stood before, which keeps its label; every later one
    is the label of the earlier x of largest cosine, the first of equals.

    Train with the loss from point `start` on: `InContextClassification(task, …, first=task.start)`.

    Attributes:
        dim: n.
        start: labels that are drawn, at least 1.
        noise: η, the probability that a label is flipped.

    Raises:
        ValueError: if an attribute is out of range.
    """

    dim: int = 28
    start: int = 20
    noise: float = 0.0

    def __post_init__(self):
        self._check()
        check_sizes(start=self.start)

    def bayes(self) -> NearestRoot:
        """The exact posterior predictive."""
        return NearestRoot(self.start, self.noise)

    def evaluate(self, latents: dict[str, Tensor], xs: Vectors) -> Scalars:
        return latents["coins"].gather(1, roots(xs, self.start))

    def _functions(self, batch: int, draw: Draw) -> dict[str, Tensor]:
        """Latents: "coins" [batch start], the drawn labels; that of a repeated x is not used."""
        return {"coins": draw.signs(batch, self.start)}

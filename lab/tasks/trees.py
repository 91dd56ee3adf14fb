"""Decision trees to be learnt in context (Garg et al. 2022, "What can transformers learn in-context?", section 5).

A complete binary tree: every inner node asks whether one coordinate, drawn uniformly, is positive, and goes to the
right if it is; every leaf holds an N(0, 1) number. In mixtures: Panwar, Ahuja & Goyal 2024, "In-context learning
through the Bayesian prism", slug `icl_bayesian_prism`.
"""

import math
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from microtome.lab.bayes import Predictor
from microtome.lab.bayes.linear import check_law
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.inputs import ALIKE, Inputs
from microtome.lab.tasks.protocol import Prompt, Task, check_sizes

MAX_DEPTH = 16


@dataclass(frozen=True)
class DecisionTree(Task):
    """y is the leaf that x falls into.

    Attributes:
        dim: d ≥ 1.
        depth: tests between root and leaf, 1 to 16; a coordinate may be asked again.
        noise_std: σ ≥ 0.
        inputs: the law of x; only the signs matter to the labels.

    Raises:
        ValueError: if an attribute is out of range.
    """

    dim: int
    depth: int = 4
    noise_std: float = 0.0
    inputs: Inputs = ALIKE

    def __post_init__(self):
        check_sizes(dim=self.dim)
        check_law(self.noise_std, 1.0)
        self.inputs.check(self.dim)
        if not 1 <= self.depth <= MAX_DEPTH:
            raise ValueError(f"depth must be between 1 and {MAX_DEPTH}, not {self.depth}.")

    @property
    def label_std(self) -> float:
        """Standard deviation of a label, noise included; 1 without."""
        return math.hypot(1.0, self.noise_std)

    def _prompt(self, batch: int, points: int, draw: Draw) -> Prompt:
        """Latents: "coordinates" [batch node], what the inner nodes ask, level by level from the root; "leaves"
        [batch leaf] from left to right; and those of the inputs."""
        coordinates = draw.integers(self.dim, batch, 2**self.depth - 1)
        leaves = draw.normal(batch, 2**self.depth)
        xs, axes = self.inputs.sample(batch, points, self.dim, draw)
        ys = leaves.gather(1, descend(xs, coordinates))
        return Prompt(xs, draw.noisy(ys, self.noise_std), {"coordinates": coordinates, "leaves": leaves} | axes)

    def bayes(self) -> Predictor:
        """
        Raises:
            ValueError: always: the trees are too many to be enumerated.
        """
        raise ValueError(
            f"there are about {self.dim}^{2**self.depth - 1} trees, too many for an exact posterior; use the baselines "
            "Tree(max_depth, signs) or Boosting() of microtome.lab.bayes.nonlinear."
        )


def descend(
    xs: Float[Tensor, "batch points dim"], coordinates: Int[Tensor, "batch node"]
) -> Int[Tensor, "batch points"]:
    """The leaf, counted from the left, that each x reaches in the tree of its prompt."""
    positive = xs > 0
    node = coordinates.new_zeros(xs.shape[:2])  # the children of node i are 2i + 1 and 2i + 2
    for _ in range((coordinates.shape[1] + 1).bit_length() - 1):
        asked = coordinates.gather(1, node)
        right = positive.gather(2, asked[..., None]).squeeze(-1)
        node = 2 * node + 1 + right
    return node - coordinates.shape[1]

"""Conjunctions and disjunctions of literals; published with three tenths of the examples forced to one label."""

from dataclasses import dataclass

from torch import Tensor

from microtome.lab.bayes.boolean.classes import conjunctions
from microtome.lab.bayes.boolean.dual import Dual
from microtome.lab.bayes.boolean.enumeration import Enumeration
from microtome.lab.bayes.boolean.literals import Literals
from microtome.lab.bayes.boolean.signs import check_share
from microtome.lab.bayes.boolean.version_space import VersionSpace
from microtome.lab.tasks.boolean.protocol import BooleanTask, Scalars, Vectors, conjunction, draw_literals, forced
from microtome.lab.tasks.boolean.teaching import refuse_taught, taught_share, teach
from microtome.lab.tasks.draw import Draw


@dataclass(frozen=True)
class Conjunction(BooleanTask):
    """+1 where all literals of w hold, so everywhere if there is none.

    Attributes:
        dim: n.
        relevant: probability that a coordinate has a literal, ±1 alike.
        monotone: whether all literals are positive.
        sparsity: how many literals there are, every choice alike; None leaves it to `relevant`.
        force: probability that an example is made to satisfy all literals.
        noise: η, the probability that a label is flipped.
        taught: share of the prompts that begin with the teaching sequence of their function (`teaching`); the paper
            teaches all, with force 0.4 in the examples that follow.

    Raises:
        ValueError: if an attribute is out of range.
    """

    dim: int = 28
    relevant: float = 0.3
    monotone: bool = False
    sparsity: int | None = None
    force: float = 0.3
    noise: float = 0.0
    taught: float = 0.0

    def __post_init__(self):
        self._check()
        Literals(self.dim, self.relevant, self.monotone, self.sparsity)
        check_share(force=self.force, taught=self.taught)

    def bayes(self) -> VersionSpace | Enumeration:
        """The exact posterior predictive: without noise by inclusion and exclusion in up to 32 dimensions (64 if
        monotone), with noise by enumeration.

        Raises:
            ValueError: if prompts are taught, or there are too many conjunctions.
        """
        refuse_taught(self.taught)
        return _exact(Literals(self.dim, self.relevant, self.monotone, self.sparsity), self.force, self.noise)

    def evaluate(self, latents: dict[str, Tensor], xs: Vectors) -> Scalars:
        return conjunction(latents["w"], xs)

    def _functions(self, batch: int, draw: Draw) -> dict[str, Tensor]:
        """Latents: "w" [batch dim], "forced" [batch points], and "taught" [batch] if some are."""
        law = Literals(self.dim, self.relevant, self.monotone, self.sparsity)
        return {"w": draw_literals(law, batch, draw)}

    def _inputs(self, latents: dict[str, Tensor], xs: Vectors, draw: Draw) -> tuple[Vectors, dict[str, Tensor]]:
        w = latents["w"]
        xs, which = forced(w, xs, self.force, draw)
        xs, how = taught_share(self.taught, draw, xs, teach(w, xs, self.monotone))
        return xs, how | {"forced": which}


@dataclass(frozen=True)
class Disjunction(BooleanTask):
    """+1 where some literal of w holds, so nowhere if there is none; the dual of `Conjunction`.

    The paper's sparse disjunction is `Disjunction(50, monotone=True, sparsity=4)`.

    Attributes:
        dim: n.
        relevant: probability that a coordinate has a literal, ±1 alike.
        monotone: whether all literals are positive.
        sparsity: how many literals there are, every choice alike; None leaves it to `relevant`.
        force: probability that an example is made to falsify all literals.
        noise: η, the probability that a label is flipped.

    Raises:
        ValueError: if an attribute is out of range.
    """

    dim: int = 28
    relevant: float = 0.3
    monotone: bool = False
    sparsity: int | None = None
    force: float = 0.3
    noise: float = 0.0

    def __post_init__(self):
        self._check()
        Literals(self.dim, self.relevant, self.monotone, self.sparsity)
        check_share(force=self.force)

    def bayes(self) -> Dual:
        """The exact posterior predictive, as for `Conjunction`.

        Raises:
            ValueError: if there are too many disjunctions.
        """
        return Dual(_exact(Literals(self.dim, self.relevant, self.monotone, self.sparsity), self.force, self.noise))

    def evaluate(self, latents: dict[str, Tensor], xs: Vectors) -> Scalars:
        return -conjunction(latents["w"], -xs)

    def _functions(self, batch: int, draw: Draw) -> dict[str, Tensor]:
        """Latents: "w" [batch dim] and "forced" [batch points]."""
        law = Literals(self.dim, self.relevant, self.monotone, self.sparsity)
        return {"w": draw_literals(law, batch, draw)}

    def _inputs(self, latents: dict[str, Tensor], xs: Vectors, draw: Draw) -> tuple[Vectors, dict[str, Tensor]]:
        xs, which = forced(-latents["w"], xs, self.force, draw)
        return xs, {"forced": which}


def _exact(law: Literals, force: float, noise: float) -> VersionSpace | Enumeration:
    return VersionSpace(law, force) if noise == 0 else Enumeration(conjunctions(law, force), noise)

"""Disjunctive and conjunctive normal forms of few clauses; one clause a prompt is forced again and again."""

from dataclasses import dataclass

import torch
from torch import Tensor

from microtome.lab.bayes.boolean.classes import normal_forms
from microtome.lab.bayes.boolean.dual import Dual
from microtome.lab.bayes.boolean.enumeration import Enumeration
from microtome.lab.bayes.boolean.literals import Literals
from microtome.lab.bayes.boolean.signs import check_share
from microtome.lab.tasks.boolean.protocol import BooleanTask, Scalars, Vectors, conjunction, draw_literals, forced
from microtome.lab.tasks.boolean.teaching import length, refuse_taught, taught_share, teach
from microtome.lab.tasks.draw import Draw
from microtome.lab.tasks.protocol import check_sizes


@dataclass(frozen=True)
class DNF(BooleanTask):
    """+1 where some clause, a conjunction of literals, holds.

    Attributes:
        dim: n.
        clauses: how many, at least 1.
        relevant: probability that a coordinate has a literal in a clause.
        monotone: whether all literals are positive.
        force: probability that an example is made to satisfy the one clause that was chosen for the prompt.
        noise: η, the probability that a label is flipped.
        taught: share of the prompts that begin with the teaching sequences of their clauses, one after the other;
            the paper teaches all, with monotone clauses and relevant 0.2.

    Raises:
        ValueError: if an attribute is out of range.
    """

    dim: int = 28
    clauses: int = 3
    relevant: float = 0.2
    monotone: bool = False
    force: float = 0.35
    noise: float = 0.0
    taught: float = 0.0

    def __post_init__(self):
        self._check()
        check_sizes(clauses=self.clauses)
        check_share(relevant=self.relevant, force=self.force, taught=self.taught)

    def bayes(self) -> Enumeration:
        """The exact posterior predictive, by enumeration of the functions together with the chosen clause.

        Raises:
            ValueError: if prompts are taught, or there are too many: three clauses over more than five bits, seven if
                monotone.
        """
        refuse_taught(self.taught)
        return _exact(Literals(self.dim, self.relevant, self.monotone), self.clauses, self.force, self.noise)

    def evaluate(self, latents: dict[str, Tensor], xs: Vectors) -> Scalars:
        return conjunction(latents["w"], xs[:, None].expand(-1, self.clauses, -1, -1)).amax(1)

    def _functions(self, batch: int, draw: Draw) -> dict[str, Tensor]:
        """Latents: "w" [batch clause dim], "chosen" [batch clause], "forced" [batch points], and "taught" [batch] if
        some are."""
        return _draw_clauses(Literals(self.dim, self.relevant, self.monotone), self.clauses, batch, draw)

    def _inputs(self, latents: dict[str, Tensor], xs: Vectors, draw: Draw) -> tuple[Vectors, dict[str, Tensor]]:
        w = latents["w"]
        xs, which = forced(_chosen(latents), xs, self.force, draw)
        taught, starts = xs, torch.zeros(len(xs), dtype=torch.long, device=xs.device)
        for clause in w.unbind(1):
            taught = teach(clause, taught, self.monotone, starts)
            starts = starts + length(clause, self.monotone)
        xs, how = taught_share(self.taught, draw, xs, taught)
        return xs, how | {"forced": which}


@dataclass(frozen=True)
class CNF(BooleanTask):
    """+1 where every clause, a disjunction of literals, holds; the dual of `DNF`. An empty clause never holds.

    Attributes:
        dim: n.
        clauses: how many, at least 1.
        relevant: probability that a coordinate has a literal in a clause.
        monotone: whether all literals are positive.
        force: probability that an example is made to falsify the one clause that was chosen for the prompt.
        noise: η, the probability that a label is flipped.

    Raises:
        ValueError: if an attribute is out of range.
    """

    dim: int = 28
    clauses: int = 3
    relevant: float = 0.2
    monotone: bool = False
    force: float = 0.3
    noise: float = 0.0

    def __post_init__(self):
        self._check()
        check_sizes(clauses=self.clauses)
        check_share(relevant=self.relevant, force=self.force)

    def bayes(self) -> Dual:
        """The exact posterior predictive, as for `DNF`.

        Raises:
            ValueError: if there are too many functions.
        """
        return Dual(_exact(Literals(self.dim, self.relevant, self.monotone), self.clauses, self.force, self.noise))

    def evaluate(self, latents: dict[str, Tensor], xs: Vectors) -> Scalars:
        return -conjunction(latents["w"], -xs[:, None].expand(-1, self.clauses, -1, -1)).amax(1)

    def _functions(self, batch: int, draw: Draw) -> dict[str, Tensor]:
        """Latents: "w" [batch clause dim], "chosen" [batch clause] and "forced" [batch points]."""
        return _draw_clauses(Literals(self.dim, self.relevant, self.monotone), self.clauses, batch, draw)

    def _inputs(self, latents: dict[str, Tensor], xs: Vectors, draw: Draw) -> tuple[Vectors, dict[str, Tensor]]:
        xs, which = forced(-_chosen(latents), xs, self.force, draw)
        return xs, {"forced": which}


def _draw_clauses(law: Literals, clauses: int, batch: int, draw: Draw) -> dict[str, Tensor]:
    w = draw_literals(law, batch * clauses, draw).unflatten(0, (batch, clauses))
    return {"w": w, "chosen": draw.subsets(batch, clauses, 1)}


def _chosen(latents: dict[str, Tensor]) -> Tensor:
    """The literals of the chosen clauses, [batch dim]."""
    return (latents["w"] * latents["chosen"][..., None]).sum(1)


def _exact(law: Literals, clauses: int, force: float, noise: float) -> Enumeration:
    return Enumeration(normal_forms(law, clauses, force), noise)

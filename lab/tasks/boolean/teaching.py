"""Teaching sequences: few examples that leave one function of the class (Goldman & Kearns 1995).

A monotone conjunction of t literals is taught by t + 1 examples: one that satisfies it and has −1 at the irrelevant
coordinates, then one for each literal with that literal flipped. A general one by t + 2: a satisfying example with
irrelevant coordinates −1, one with +1, then the flips of the first, positive literals before negative ones.

Source: Bhattamishra et al. (2024, icl_boolean), section on teaching sequences.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from microtome.lab.tasks.draw import Draw

Vectors = Float[Tensor, "batch points dim"]
Literals = Float[Tensor, "batch dim"]


def length(w: Literals, monotone: bool) -> Int[Tensor, " batch"]:
    """Examples that teach each conjunction."""
    return (w != 0).sum(-1) + (1 if monotone else 2)


def teach(w: Literals, xs: Vectors, monotone: bool, starts: Int[Tensor, " batch"] | None = None) -> Vectors:
    """Inputs with the teaching sequence of each conjunction put in; one that does not fit is cut off.

    Args:
        w: the conjunctions.
        xs: inputs.
        monotone: whether the class has positive literals only.
        starts: the place of each sequence's first example; None is the first point.
    """
    base = torch.where(w != 0, w, -torch.ones_like(w))
    before = 1 if monotone else 2
    place = torch.arange(xs.shape[1], device=xs.device) - (0 if starts is None else starts[:, None])
    place = place.expand(len(xs), -1)  # batch points
    flipped = (_order(w)[:, None] == (place - before)[..., None]) & (w != 0)[:, None]
    taught = torch.where(flipped, -base[:, None], base[:, None])
    if not monotone:
        taught = torch.where((place == 1)[..., None] & (w == 0)[:, None], 1.0, taught)
    inside = (place >= 0) & (place < length(w, monotone)[:, None])
    return torch.where(inside[..., None], taught, xs)


def taught_share(
    share: float, draw: Draw, xs: Vectors, taught: Vectors
) -> tuple[Vectors, dict[str, Bool[Tensor, " batch"]]]:
    """Takes the taught prompts with probability `share`; latent "taught" [batch] says which."""
    if share == 0:
        return xs, {}
    which = draw.chance(share, len(xs))
    return torch.where(which[:, None, None], taught, xs), {"taught": which}


def refuse_taught(share: float) -> None:
    """Raises ValueError, with what to use instead, if some prompts are taught: their posterior is another one."""
    if share > 0:
        raise ValueError(
            "a teaching sequence gives its function away by its inputs alone; take the answer of a learner that "
            "does not know it is taught, dataclasses.replace(task, taught=0.0).bayes()."
        )


def _order(w: Literals) -> Int[Tensor, "batch dim"]:
    """The turn of each literal, positive ones first; meaningless at irrelevant coordinates."""
    plus, minus = w > 0, w < 0
    return torch.where(plus, plus.cumsum(-1) - 1, plus.sum(-1, keepdim=True) + minus.cumsum(-1) - 1)

"""Running sums, as the law of prefixes reads them: entry i is made of the pairs before i."""

import torch
from jaxtyping import Shaped
from torch import Tensor


def before(sums: Shaped[Tensor, "batch points *rest"]) -> Shaped[Tensor, "batch points *rest"]:
    """What a running sum was before each point was added; 0 at the first."""
    return torch.cat([torch.zeros_like(sums[:, :1]), sums[:, :-1]], dim=1)

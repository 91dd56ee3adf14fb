"""Into the stream: a component, a datapoint, or the parameters of a prior that is no mixture."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Embedding(nn.Sequential):
    """A multilayer perceptron with GELU between its layers.

    Args:
        widths: from input to output, at least two.
    """

    def __init__(self, *widths: int):
        layers: list[nn.Module] = []
        for d_in, d_out in pairwise(widths):
            layers += [nn.GELU(), nn.Linear(d_in, d_out)]
        super().__init__(*layers[1:])


class ParametricPrior(nn.Module):
    """A prior of another family as K component tokens; there is no way back.

    One perceptron reads the numbers of the family, then K perceptrons make one token each. A prior of independent
    factors has both for each factor, which shares the width of a token evenly, the last taking the rest.

    Args:
        parameters: numbers of each factor.
        n_components: K.
        d_model: width of a token.
        d_hidden: widths of the hidden layers of the first perceptron; those of the others are d_conversion.
        d_conversion: as said.
    """

    def __init__(
        self,
        parameters: tuple[int, ...],
        n_components: int,
        d_model: int,
        d_hidden: tuple[int, ...],
        d_conversion: tuple[int, ...],
    ):
        super().__init__()
        self.parameters = parameters
        share = d_model // len(parameters)
        widths = [share] * (len(parameters) - 1) + [d_model - share * (len(parameters) - 1)]
        factors = list(zip(parameters, widths, strict=True))
        self.families = nn.ModuleList(Embedding(n, *d_hidden, width) for n, width in factors)
        self.components = nn.ModuleList(
            nn.ModuleList(Embedding(width, *d_conversion, width) for _ in range(n_components)) for _, width in factors
        )

    def forward(self, prior: Float[Tensor, "batch parameter"]) -> Float[Tensor, "batch component d_model"]:
        parts = []
        for numbers, family, components in zip(
            prior.split(self.parameters, dim=-1), self.families, self.components, strict=True
        ):
            whole = family(numbers)
            parts.append(torch.stack([component(whole) for component in components], dim=1))
        return torch.cat(parts, dim=-1)

"""MLPs that are lookup tables: two variables in, one categorical variable out (Friedman et al. 2023, section 3.3)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.rasp.learned.gates import Gate, Sample, started
from microtome.lab.zoo.points import Point

N_READ = 2
"""Variables that an MLP reads (the paper's ℓ)."""


class Lookups(nn.Module):
    """The MLPs of one kind in one layer, computed together.

    Args:
        n_mlps: how many.
        n_vars: variables that each chooses from.
        width: numbers a variable consists of: k for categorical ones, 1 for numerical ones.
        d_mlp: hidden neurons.
        k: values of the variable written.
        generator: draws the parameters.
    """

    def __init__(self, n_mlps: int, n_vars: int, width: int, d_mlp: int, k: int, generator: torch.Generator):
        super().__init__()
        self.gate = Gate((n_mlps, N_READ), n_vars, generator)
        self.W_in = started(n_mlps, N_READ * width, d_mlp, fan=d_mlp, generator=generator)
        self.b_in = nn.Parameter(torch.zeros(n_mlps, d_mlp))
        self.W_out = started(n_mlps, d_mlp, k, fan=k, generator=generator)
        self.b_out = nn.Parameter(torch.zeros(n_mlps, k))
        self.hook_pre = Point("batch pos mlp d_mlp", "hidden")
        self.hook_post = Point("batch pos mlp d_mlp", "hidden")

    def forward(
        self, variables: Float[Tensor, "batch pos var width"], sample: Sample
    ) -> Float[Tensor, "batch pos mlp value"]:
        return sample(self.log_probabilities(self.gate(variables, sample).flatten(-2)))

    def log_probabilities(self, read: Float[Tensor, "batch pos mlp inputs"]) -> Float[Tensor, "batch pos mlp value"]:
        """Of each value, given what the gates read."""
        pre = self.hook_pre(torch.einsum("bpmi,mid->bpmd", read, self.W_in) + self.b_in)
        post = self.hook_post(pre.relu())
        return (torch.einsum("bpmd,mdk->bpmk", post, self.W_out) + self.b_out).log_softmax(-1)

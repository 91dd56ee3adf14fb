"""Attention heads whose scores are a predicate (Friedman et al. 2023, sections 3.2 and 3.4).

A head reads a query and a key variable through gates; its predicate matrix W maps each value of the query to one value
of the key, and a key matches where it has that value:

    S = (x_Q W)(x_K)ᵀ ∈ {0, 1}

A categorical head attends to the nearest match and copies a categorical variable; a numerical head adds a numerical
variable up over all matches. All heads of a layer are computed together.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from microtome.lab.rasp.learned.gates import Gate, Sample, argmax, started
from microtome.lab.rasp.learned.options import Options
from microtome.lab.zoo.points import Point, Reading

TINY = 1e-20
"""Keeps the logarithm of a score of zero finite."""
NEVER = -1e30
"""The score of a key that may not be seen."""
SELF = -2.0
"""The bias of a position towards itself: below that of every other distance, so that the self-match comes last."""

Categorical = Float[Tensor, "batch pos var value"]
Blocked = Bool[Tensor, "batch 1 #query key"]
"""True at keys that a query may not see."""


class Heads(nn.Module):
    """What both kinds of heads share: gates for queries and keys, and the predicate.

    Args:
        options: of the network.
        layer: which one this is.
        n_heads: how many heads.
        n_values: how many variables the value can be read from.
        generator: draws the parameters.
    """

    def __init__(self, options: Options, layer: int, n_heads: int, n_values: int, generator: torch.Generator):
        super().__init__()
        k, n_vars = options.d_var, options.categorical_before(layer)
        self.d_model, self.n_vars, self.k = options.d_model, n_vars, k
        self.gate = Gate((2, n_heads), n_vars, generator)
        self.predicate = started(n_heads, k, k, fan=k, generator=generator)
        self.value_gate = Gate((n_heads,), n_values, generator)
        self.hook_q = Point("batch pos head d_head", "query")
        self.hook_k = Point("batch pos head d_head", "key")
        self.hook_pattern = Point("batch head query key", "pattern")
        self.hook_effective_pattern = Reading("batch head query key", "pattern")

    def matches(self, variables: Categorical, sample: Sample) -> Float[Tensor, "batch head query key"]:
        """S, whether each key has the value that each query looks for."""
        wanted, keys = self.gate(variables, sample).unbind(2)
        queries = self.hook_q(torch.einsum("bqhk,hkl->bqhl", wanted, sample(self.predicate)))
        return torch.einsum("bqhl,bjhl->bhqj", queries, self.hook_k(keys))

    @property
    def W_Q(self) -> Float[Tensor, "head d_model d_head"]:
        """What makes the discrete network's queries of the stream, predicate included."""
        return self._reads(0) @ argmax(self.predicate)

    @property
    def W_K(self) -> Float[Tensor, "head d_model d_head"]:
        """What makes the discrete network's keys of the stream."""
        return self._reads(1)

    def _reads(self, role: int) -> Tensor:
        return placed(argmax(self.gate.logits[role]), self.k, self.d_model)


class CategoricalHeads(Heads):
    """z_i = the value at the nearest key that matches query i, or at the first position if none does."""

    def __init__(self, options: Options, layer: int, generator: torch.Generator):
        super().__init__(options, layer, options.n_cat_heads, options.categorical_before(layer), generator)
        self.register_buffer("bias", distance_bias(options.n_ctx), persistent=False)
        self.register_buffer("first", (torch.arange(options.n_ctx) == 0).float(), persistent=False)
        self.hook_v = Point("batch pos head d_head", "value")
        self.hook_attn_scores = Point("batch head query key", "score")
        self.hook_z = Point("batch pos head d_head", "write")
        self.hook_row_entropy = Reading("batch head query", "measure")

    def forward(
        self, variables: Categorical, blocked: Blocked, sample: Sample
    ) -> Float[Tensor, "batch pos head value"]:
        values = self.hook_v(self.value_gate(variables, sample))
        scores = self.hook_attn_scores(self._scores(self.matches(variables, sample), blocked))
        pattern = self.hook_pattern(sample(scores))
        self.hook_effective_pattern.read(lambda: pattern)
        self.hook_row_entropy.read(lambda: torch.special.entr(pattern).sum(-1))
        return self.hook_z(torch.einsum("bhqj,bjhk->bqhk", pattern, values))

    def _scores(self, match: Tensor, blocked: Tensor) -> Tensor:
        n = match.shape[-1]
        found = match.masked_fill(blocked, 0.0).sum(-1, keepdim=True)
        match = match + (1.0 - found / (found + 1e-10)).relu() * self.first[:n]
        scores = (match + TINY).log() + self.bias[:n, :n]
        return scores.masked_fill(blocked, NEVER) / math.sqrt(self.k)

    @property
    def W_V(self) -> Float[Tensor, "head d_model d_head"]:
        """What makes the discrete network's values of the stream."""
        return placed(argmax(self.value_gate.logits), self.k, self.d_model)

    @property
    def W_O(self) -> Float[Tensor, "head d_head d_model"]:
        """Where each head writes: its own variable, the `n_vars`-th and following of the stream."""
        own = torch.eye(len(self.predicate), dtype=self.predicate.dtype, device=self.predicate.device)
        before = own.new_zeros(len(own), self.n_vars)
        return placed(torch.cat([before, own], -1), self.k, self.d_model).mT


class NumericalHeads(Heads):
    """z_i = Σ_j S_ij v_j over the keys that i may see: for the variable `ones`, the number of matches."""

    def __init__(self, options: Options, layer: int, generator: torch.Generator):
        super().__init__(options, layer, options.n_num_heads, options.numerical_before(layer), generator)
        self.hook_v = Point("batch pos head one", "value")
        self.hook_z = Point("batch pos head one", "write")

    def forward(
        self, variables: Categorical, numbers: Float[Tensor, "batch pos num one"], blocked: Blocked, sample: Sample
    ) -> Float[Tensor, "batch pos head one"]:
        values = self.hook_v(self.value_gate(numbers, sample))
        pattern = self.hook_pattern(self.matches(variables, sample).masked_fill(blocked, 0.0))
        self.hook_effective_pattern.read(lambda: pattern)
        return self.hook_z(torch.einsum("bhqj,bjhk->bqhk", pattern, values))


def distance_bias(n: int) -> Float[Tensor, "query key"]:
    """What a match at each distance is worth: nearer more, to the left more than to the right, itself least.

    0 at distance 1; each further step costs 1/(n − 1) to the left and 1/(n − 2) to the right, so that all but the
    self-match (−2) lie in [−1, 0].
    """
    offset = torch.arange(n)[None, :] - torch.arange(n)[:, None]
    beyond = (offset.abs() - 1).float()
    bias = torch.where(offset < 0, -beyond / max(n - 1, 1), -beyond / max(n - 2, 1))
    return bias.masked_fill(offset == 0, SELF)


def placed(choice: Float[Tensor, "head var"], k: int, d_model: int) -> Float[Tensor, "head d_model d_head"]:
    """The linear maps from the stream to its `choice`-th variables of k values."""
    maps = torch.kron(choice[:, :, None], torch.eye(k, dtype=choice.dtype, device=choice.device))
    return nn.functional.pad(maps, (0, 0, 0, d_model - maps.shape[1]))

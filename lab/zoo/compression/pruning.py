"""Pruning: which weights and heads to take away (slug `survey_faster_lighter`).

- magnitude (Han et al. 2015): the weights of smallest |w| over the whole model;
- movement (Sanh et al. 2020): those of smallest S = −Σ η·w·∂L/∂w, summed over training: weights that grow are kept;
- heads (Michel et al. 2019, "Are sixteen heads really better than one?"): those of smallest I_h = E |z_hᵀ ∂L/∂z_h|.

Masks are torch.nn.utils.prune's, on the weights of linear maps inside the blocks: they save nothing in time, as the
products stay dense.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import prune

from microtome.lab.zoo.transformer import SequenceModel

Weights = list[tuple[nn.Linear, str]]


def prunable(model: SequenceModel) -> Weights:
    """The weights of all linear maps inside the blocks, each with its name, as torch's pruning takes them."""
    return [(module, "weight") for module in model.blocks.modules() if isinstance(module, nn.Linear)]


def magnitude(model: SequenceModel, share: float) -> None:
    """Masks the given share of the prunable weights, those of smallest absolute value over all of them."""
    _check_share(share)
    prune.global_unstructured(prunable(model), prune.L1Unstructured, amount=share)


class Movement:
    """Scores of a model's prunable weights while it trains; call `observe` after each backward pass.

    Attributes:
        scores: S of each weight, in the order of `prunable`.
    """

    def __init__(self, model: SequenceModel):
        self.weights = prunable(model)
        self.scores = [torch.zeros_like(module.weight) for module, _ in self.weights]

    @torch.no_grad()
    def observe(self, lr: float) -> None:
        """S ← S − η·w·∂L/∂w with the gradients that lie in the parameters.

        Raises:
            ValueError: if a weight has no gradient.
        """
        for (module, _), score in zip(self.weights, self.scores, strict=True):
            if module.weight.grad is None:
                raise ValueError("a weight has no gradient; call observe between the backward pass and zero_grad.")
            score -= lr * module.weight * module.weight.grad

    def prune(self, share: float) -> None:
        """Masks the given share of the weights, those of smallest S over all of them."""
        _check_share(share)
        every = torch.cat([score.flatten() for score in self.scores])
        kept = torch.ones_like(every, dtype=torch.bool)
        kept[every.argsort()[: round(share * len(every))]] = False
        sizes = [score.numel() for score in self.scores]
        for (module, name), mask in zip(self.weights, kept.split(sizes), strict=True):
            prune.custom_from_mask(module, name, mask.view_as(module.weight))


def head_importance(
    model: SequenceModel, losses: Float[Tensor, " batch"], z: Mapping[int, Tensor]
) -> Float[Tensor, "layer head"]:
    """I_h of every head: the mean over examples of |Σ z·∂L/∂z|, sums over positions and features.

    Args:
        model: whose heads they are.
        losses: L of each example, with its graph.
        z: hook_z [batch pos head d_head] of every layer, on that graph; `watched_z` collects them.

    Raises:
        ValueError: if a layer's z is missing.
    """
    missing = sorted(set(range(len(model.blocks))) - set(z))
    if missing:
        raise ValueError(f"hook_z of layer {missing[0]} is missing; all {len(model.blocks)} layers are needed.")
    layers = [z[i] for i in range(len(model.blocks))]
    gradients = torch.autograd.grad(losses.sum(), layers)
    return torch.stack([(a * g).sum((1, 3)).abs().mean(0) for a, g in zip(layers, gradients, strict=True)]).detach()


def watched_z(model: SequenceModel) -> tuple[dict[int, Tensor], list]:
    """A dictionary that fills with each layer's hook_z, and the hooks that fill it, for `model.hooks(fwd_hooks=…)`."""
    kept: dict[int, Tensor] = {}

    def keep(layer: int):
        def hook(z: Tensor, hook) -> None:
            kept[layer] = z

        return hook

    return kept, [(f"blocks.{i}.{block.slot}.hook_z", keep(i)) for i, block in enumerate(model.blocks)]


def prune_heads(model: SequenceModel, heads: Mapping[int, Sequence[int]]) -> None:
    """Masks what W_O reads of the given heads, {layer: heads}, so that they write nothing.

    Raises:
        ValueError: for a layer or head that does not exist.
    """
    for layer, chosen in heads.items():
        if not 0 <= layer < len(model.blocks):
            raise ValueError(f"there is no layer {layer}; layers are 0 … {len(model.blocks) - 1}.")
        mixer = model.blocks[layer].mixing
        bad = [h for h in chosen if not 0 <= h < mixer.n_heads]
        if bad:
            raise ValueError(f"there is no head {bad[0]} in layer {layer}; heads are 0 … {mixer.n_heads - 1}.")
        mask = torch.ones_like(mixer.o.weight).unflatten(1, (mixer.n_heads, -1))
        mask[:, list(chosen)] = 0
        prune.custom_from_mask(mixer.o, "weight", mask.flatten(1))


def sparsity(model: SequenceModel) -> float:
    """The share of prunable weights that are zero."""
    weights = [module.weight for module, _ in prunable(model)]
    return sum((w == 0).sum().item() for w in weights) / sum(w.numel() for w in weights)


def _check_share(share: float) -> None:
    if not 0 <= share < 1:
        raise ValueError(f"share must be at least 0 and below 1, not {share}.")

"""σReparam: "Stabilizing Transformer Training by Preventing Attention Entropy Collapse" (Zhai et al. 2023, slug
`sigma_reparam`).

Every linear and convolution weight W is used as Ŵ = (γ/σ(W))·W with one learned scalar γ a matrix. σ(W) is estimated by
one power iteration a forward pass while training: v = Wu/‖Wu‖, u = Wᵀv/‖Wᵀv‖, σ = vᵀWu, with gradient through W only,
so that ∂σ/∂W = vuᵀ and the weight always moves orthogonally to itself. Evaluation iterates once from the stored u and
stores nothing. A convolution's kernel is flattened to out × (in·kh·kw). The estimate is made in float32 or wider.

The norm of the same name keeps no normalisation layer (the vision setting) or another one (`keep`).
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from microtome.kernels.spectral import power_step
from microtome.lab.zoo.norms import none
from microtome.lab.zoo.parts import NormPart, Placement

REPARAMETRISED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
Start = Literal["spectral", "one"]


class SigmaReparam(nn.Module):
    """The parametrisation W ↦ (γ/σ(W))·W of one weight.

    Args:
        weight: the weight at the start; `u` starts as its top right singular vector.
        gamma: γ's start: `spectral` makes Ŵ = W at the start, `one` gives every Ŵ spectral norm one.
    """

    undecayed: ClassVar = ("gamma",)

    def __init__(self, weight: Tensor, gamma: Start):
        super().__init__()
        matrix = _wide(weight.detach())
        left, sigma, right = torch.linalg.svd(matrix, full_matrices=False)
        if sigma[0] == 0:
            raise ValueError("a weight that is zero has no direction to reparametrise; start it elsewhere.")
        self.gamma = nn.Parameter((sigma[0] if gamma == "spectral" else torch.ones_like(sigma[0])).to(weight.dtype))
        self.register_buffer("u", right[0].clone())
        self.register_buffer("v", left[:, 0].clone())

    def forward(self, weight: Tensor) -> Tensor:
        u, v = self.u, self.v
        if not self.training:
            u, v = power_step(_wide(weight.detach()), u)
        # Clones, because the next forward pass moves the buffers in place while this graph may still need them.
        sigma = torch.einsum("o,oi,i->", v.clone(), _wide(weight), u.clone())
        return weight * (self.gamma / sigma).to(weight.dtype)

    @torch.no_grad()
    def advance(self, weight: Tensor) -> None:
        """One stored power iteration."""
        u, v = power_step(_wide(weight.detach()), self.u)
        self.u.copy_(u)
        self.v.copy_(v)


def reparametrise(model: nn.Module, gamma: Start = "spectral") -> int:
    """Reparametrises every linear and convolution weight below a module, in place; returns how many there were.

    `module.weight` is Ŵ from then on. The γ parameters end in `.gamma`, and the trainer gives them no weight decay.
    """
    found = [m for m in model.modules() if isinstance(m, REPARAMETRISED)]
    for module in found:
        parametrize.register_parametrization(module, "weight", SigmaReparam(module.weight, gamma), unsafe=True)
        module.register_forward_pre_hook(_advance_when_training)
    return len(found)


def fold(model: nn.Module) -> None:
    """Replaces every reparametrised weight by its present Ŵ, a plain parameter: the same function, for inference."""
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight") and isinstance(
            module.parametrizations.weight[0], SigmaReparam
        ):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
            for key, hook in list(module._forward_pre_hooks.items()):
                if hook is _advance_when_training:
                    del module._forward_pre_hooks[key]


def _advance_when_training(module: nn.Module, _inputs) -> None:
    # Moved by the forward pass and not by reading `weight`, so that a probe may read Ŵ at any time.
    if module.training:
        module.parametrizations.weight[0].advance(module.parametrizations.weight.original)


def _wide(weight: Tensor) -> Float[Tensor, "out flat"]:
    """The weight as a matrix, in float32 or wider."""
    matrix = weight.flatten(1)
    return matrix if matrix.dtype == torch.float64 else matrix.float()


@dataclass(frozen=True)
class Part(NormPart):
    """`keep`: the normalisation layers that stay, none by default; `gamma`: γ's start, as `SigmaReparam` says."""

    keep: NormPart = field(default_factory=none.Part)
    gamma: Start = "spectral"

    @property
    def placement(self) -> Placement:
        return self.keep.placement

    @property
    def final(self) -> bool:
        return self.keep.final

    def build(self, d_model: int) -> nn.Module:
        return self.keep.build(d_model)

    def finish(self, model: nn.Module) -> None:
        if self.gamma not in ("spectral", "one"):
            raise ValueError(f"gamma starts as 'spectral' or 'one', not {self.gamma!r}.")
        reparametrise(model, self.gamma)

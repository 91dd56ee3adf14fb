"""Gradients of linear attention with a norm in the denominator's place, measured.

Source: Qin et al., "The Devil in Linear Transformer" (2022), sections 3.1 and 4.1.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from microtome.lab.zoo.norms.simple_rmsnorm import simple_rms
from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_PAPER = "Qin et al., The Devil in Linear Transformer (2022)"
DRAWS, N, WIDTH = 300, 64, 16

BOUND = Statement(
    name="a norm bounds the gradient of a similarity",
    text="For o = x/σ with x = Σ_j s_j v_j and σ = √(mean x² + ε), ‖∂o/∂s_j‖ ≤ ‖v_j‖/√ε.",
    hypotheses=("any similarities and values; random ones here, some with x near zero, where the bound is reached",),
    source=f"{_PAPER}, equation 12",
    slug="transnormer",
)
TAME = Statement(
    name="gradients of NormAttention do not explode",
    text="Over random inputs the norm of the gradient to queries and keys has a relative standard deviation of at most "
    "2 and a maximum of at most 100 medians; divided by the sum of similarities instead, at least 5 and 1,000.",
    hypotheses=(f"causal, φ = elu, n = {N}, d = {WIDTH}, a random linear loss", f"{DRAWS} draws of N(0, 1)"),
    source=f"{_PAPER}, section 3.1 and figure 1",
    slug="transnormer",
)


def by_norm(weights: Tensor, v: Tensor) -> Tensor:
    """NormAttention of one head: the root mean square in the denominator's place."""
    return simple_rms(weights @ v)


def by_sum(weights: Tensor, v: Tensor) -> Tensor:
    """Scaled linear attention: every row divided by its sum."""
    return weights @ v / weights.sum(-1, keepdim=True)


def gradient_norms(attend, activation, generator: torch.Generator) -> Float[Tensor, " draw"]:
    """‖∂loss/∂(q, k)‖ of each draw for a loss linear in the output."""
    q, k, v, along = torch.randn(4, DRAWS, N, WIDTH, generator=generator, dtype=torch.float64)
    q, k = q.requires_grad_(), k.requires_grad_()
    out = attend((activation(q) @ activation(k).mT).tril(), v)
    slopes = torch.autograd.grad((out * along).sum(), (q, k))
    return torch.cat(slopes, -1).flatten(1).norm(dim=1)


def spread(norms: Float[Tensor, " draw"]) -> tuple[float, float]:
    """Standard deviation over mean, and maximum over median."""
    return (norms.std() / norms.mean()).item(), (norms.max() / norms.median()).item()


def norm_bound(scale: float, generator: torch.Generator, epsilon: float = 1e-3, by_sums: bool = False) -> float:
    """The largest ‖∂o/∂s_j‖·√ε/‖v_j‖ over 200 rows of 8 similarities of this scale."""
    s, v = torch.randn(200, 8, generator=generator), torch.randn(200, 8, WIDTH, generator=generator)
    s, v = scale * s.double(), v.double()

    def row(s: Tensor, v: Tensor) -> Tensor:
        x = s @ v
        return x / s.sum() if by_sums else x / (x.square().mean() + epsilon).sqrt()

    jacobian = torch.func.vmap(torch.func.jacrev(row))(s, v)  # [row channel similarity]
    return (jacobian.norm(dim=1) * epsilon**0.5 / v.norm(dim=-1)).max().item()


def _bound(budget: str, seed: int) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    scales = (1e-6, 1e-3, 1.0)
    found = [norm_bound(scale, generator) for scale in scales]
    control = max(norm_bound(scale, generator, by_sums=True) for scale in scales)
    name = "largest gradient over the bound"
    return Evidence(
        kind="numeric",
        statement=BOUND,
        checks=(
            Check(name, max(found), "<=", 1 + 1e-9),
            Check("the same where x is near zero", found[0], ">=", 1 - 1e-3),
        ),
        control=Control("divided by Σs", (Check(name, control, "<=", 1 + 1e-9),)),
        seed=seed,
        budget=budget,
    )


def _tame(budget: str, seed: int) -> Evidence:
    def measured(attend, activation) -> tuple[float, float]:
        return spread(gradient_norms(attend, activation, torch.Generator().manual_seed(seed)))

    deviation, peak = measured(by_norm, F.elu)
    summed_deviation, summed_peak = measured(by_sum, F.elu)
    positive = measured(by_sum, lambda x: 1 + F.elu(x))
    names = "relative standard deviation", "maximum over median"
    return Evidence(
        kind="numeric",
        statement=TAME,
        checks=(
            Check(names[0], deviation, "<=", 2),
            Check(names[1], peak, "<=", 100),
            Check("relative standard deviation, divided by Σs", summed_deviation, ">=", 5),
            Check("maximum over median, divided by Σs", summed_peak, ">=", 1e3),
        ),
        control=Control(
            "divided by Σs", (Check(names[0], summed_deviation, "<=", 2), Check(names[1], summed_peak, "<=", 100))
        ),
        seed=seed,
        budget=budget,
        notes=f"With φ = 1 + elu dividing by Σs is tame as well: {positive[0]:.2f} and {positive[1]:.1f}.",
    )


CLAIMS = (Claim(BOUND, "numeric", _bound), Claim(TAME, "numeric", _tame))

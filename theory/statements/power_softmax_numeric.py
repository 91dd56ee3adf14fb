"""PowerSoftmax in floating point: which form survives huge and tiny scores, and how its denominators grow.

Source: "Power-Softmax: Towards Secure LLM Inference over Encrypted Data" (2024).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.kernels.power_softmax import weights
from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

PAPER = "Power-Softmax: Towards Secure LLM Inference over Encrypted Data (2024)"
P, SCALES, LENGTHS = 4, (1e10, 1.0, 1e-12), (16, 64, 256, 1024, 4096)

STABLE = Statement(
    name="the row maximum makes it stable",
    text="Scores divided by their largest first give float32 weights that sum to 1 at every scale; x^p/Σx^p is NaN at "
    "both ends.",
    hypotheses=("p = 4, ε = 0", "1,000 rows of 64 Gaussian scores times 1e10, 1 or 1e-12, float32"),
    source=f"{PAPER}, stable training form",
    slug="power_softmax",
)
BOUNDED = Statement(
    name="the mean's denominator does not grow with length",
    text="mean x^p never exceeds max x^p, whatever the length, while Σ x^p grows with the length to the power one.",
    hypotheses=("p = 4", "rows of n uniform scores in [−1, 1], n from 16 to 4,096, 200 rows a length"),
    source=f"{PAPER}, length-agnostic inference form",
    slug="power_softmax",
)


def off_one(stable: bool, generator: torch.Generator) -> float:
    """The largest |Σ weights − 1| over rows of every scale, in float32; infinite where a weight is not finite."""
    worst = 0.0
    for scale in SCALES:
        s = scale * torch.randn(1000, 64, generator=generator)
        w = weights(s, P, epsilon=0.0, delta=0.0, form="max") if stable else s**P / (s**P).sum(-1, keepdim=True)
        error = (w.sum(-1) - 1).abs()
        worst = max(worst, error.nan_to_num(nan=torch.inf).max().item())
    return worst


def _stable(budget: str, seed: int) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    name = "largest |Σ weights − 1|"
    return Evidence(
        kind="numeric",
        statement=STABLE,
        checks=(Check(name, off_one(True, generator), "<=", 1e-6),),
        control=Control("x^p/Σx^p as it stands", (Check(name, off_one(False, generator), "<=", 1e-6),)),
        seed=seed,
        budget=budget,
    )


def denominators(n: int, generator: torch.Generator) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
    """Mean and maximum of x^p over rows of n scores."""
    y = (2 * torch.rand(200, n, generator=generator, dtype=torch.float64) - 1) ** P
    return y.mean(-1), y.amax(-1)


def _bounded(budget: str, seed: int) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    rows = {n: denominators(n, generator) for n in LENGTHS}
    log_n = torch.tensor(LENGTHS, dtype=torch.float64).log()

    def slope(values: list[float]) -> float:
        y = torch.tensor(values, dtype=torch.float64).log()
        x = log_n - log_n.mean()
        return ((x * y).sum() / x.square().sum()).item()

    over = "largest denominator over max x^p"
    growth = slope([n * mean.mean().item() for n, (mean, _) in rows.items()])
    return Evidence(
        kind="numeric",
        statement=BOUNDED,
        checks=(
            Check(over, max((mean / top).max().item() for mean, top in rows.values()), "<=", 1.0),
            Check("growth of the sum with length, power, at least", growth, ">=", 0.95),
            Check("growth of the sum with length, power, at most", growth, "<=", 1.05),
        ),
        control=Control(
            "the sum as denominator",
            (Check(over, max((n * mean / top).max().item() for n, (mean, top) in rows.items()), "<=", 1.0),),
        ),
        seed=seed,
        budget=budget,
    )


CLAIMS = (Claim(STABLE, "numeric", _stable), Claim(BOUNDED, "numeric", _bounded))

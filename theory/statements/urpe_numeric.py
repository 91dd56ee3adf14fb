"""URPE's two attention matrices measured in float64: how far constant rows drift apart, row sums, gradients.

Source: Luo et al., "Your Transformer May Not be as Powerful as You Expect" (2022). The proofs for general sizes are in
`urpe_symbolic`; here real layers with random parameters are run on constant inputs.
"""

from fractions import Fraction

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.theory.claim import Claim
from microtome.theory.constructions.urpe import pattern, random_layer, row_spread, toeplitz, transformer
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_PAPER = "Luo et al., Your Transformer May Not be as Powerful as You Expect (2022)"
_DEPTHS = range(1, 7)
_POSITIONS, _WIDTH, _HEADS = 8, 32, 4

ROW_SPREAD = Statement(
    name="row spread on constant inputs",
    text="On constant inputs a relative-position transformer keeps its rows together (spread at most 1e-5) at depths 1 "
    "to 6, and URPE with a random factor does not (spread above 1e-2).",
    hypotheses=(
        "no absolute positions and no special first token",
        "factors drawn from N(0, 1) for every offset",
    ),
    source=f"{_PAPER}, theorem on relative positional encodings",
    slug="urpe",
)
ROW_SUMS = Statement(
    name="row sums are exactly i/n",
    text="With W_Q = 0, B = 0 and c_{j−i} = 1[j ≤ i] the row sums are i/n exactly, all of them different.",
    hypotheses=(
        "n from 1 to 64",
        "rational arithmetic for every n, float64 for the n that are powers of two",
    ),
    source=f"{_PAPER}, position-aware condition",
    slug="urpe",
)
FACTOR_GRADIENT = Statement(
    name="gradient of the Toeplitz factor",
    text="∂L/∂c_δ = Σ_{j−i=δ} A_ij (∂L/∂A_U)_ij.",
    hypotheses=("C_ij = c_{j−i} multiplies the probabilities after the softmax",),
    source=f"{_PAPER}, definition of URPE attention",
    slug="urpe",
)


def spreads(placement: str, depth: int, draws: int, causal: bool, generator: torch.Generator) -> Float[Tensor, " draw"]:
    """Row spread at the output for constant inputs, over random layers, biases, factors and inputs.

    `placement` says where the factor C goes: "none", "outside" (after the softmax, URPE) or "inside" (log|C| added to
    the logits).
    """
    layers = tuple(random_layer(_WIDTH, _HEADS, (draws,), generator) for _ in range(depth))
    bias, factor = (
        toeplitz(torch.randn(draws, _HEADS, 2 * _POSITIONS - 1, generator=generator, dtype=torch.float64))
        for _ in range(2)
    )
    if placement == "inside":
        bias = bias + factor.abs().log()
    row = torch.randn(draws, 1, _WIDTH, generator=generator, dtype=torch.float64)
    x = row.expand(-1, _POSITIONS, -1)
    return row_spread(transformer(x, layers, bias, factor if placement == "outside" else None, causal))


def _row_spread(budget: str, seed: int) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    draws = {"quick": 10, "full": 200}[budget]
    by_depth = {
        placement: [
            torch.cat([spreads(placement, depth, draws, causal, generator) for causal in (False, True)])
            for depth in _DEPTHS
        ]
        for placement in ("none", "inside", "outside")
    }
    largest_plain = max(spread.max().item() for spread in by_depth["none"])
    moved = "smallest spread with a random factor"

    def smallest(placement: str) -> float:
        return min(spread.min().item() for spread in by_depth[placement])

    return Evidence(
        kind="numeric",
        statement=ROW_SPREAD,
        checks=(
            Check("largest spread without a factor", largest_plain, "<=", 1e-5),
            Check(moved, smallest("outside"), ">", 1e-2),
        ),
        control=Control(
            "the same factors as log|C| inside the softmax", (Check(moved, smallest("inside"), ">", 1e-2),)
        ),
        seed=seed,
        budget=budget,
        notes=f"{2 * draws} draws a depth, half of them causal; n={_POSITIONS}, d={_WIDTH}, {_HEADS} heads.",
        figure=lambda: _draw_spreads(by_depth),
    )


def row_sums(n: int, inside: bool = False) -> list[Fraction]:
    """Row sums of the uniform matrix 1/n with c_{j−i} = 1[j ≤ i], in rational arithmetic.

    `inside` puts log|C| into the softmax instead, so that a row of the matrix is uniform over the keys it keeps.
    """
    return [sum(Fraction(1, row if inside else n) for _ in range(row)) for row in range(1, n + 1)]


def float_row_sums(n: int) -> Float[Tensor, " query"]:
    """The same row sums from the float64 layer: softmax of zero logits, times the Toeplitz matrix, summed."""
    by_offset = (torch.arange(-(n - 1), n) <= 0).to(torch.float64)
    return pattern(torch.zeros(1, n, n, dtype=torch.float64), toeplitz(by_offset[None])).sum(-1)[0]


def _row_sums(budget: str, seed: int) -> Evidence:
    sizes = range(1, 65)
    powers = [2**exponent for exponent in range(7)]
    float_wrong = sum(sum_ != row / n for n in powers for row, sum_ in enumerate(float_row_sums(n).tolist(), start=1))
    repeated = sum(n - len(set(row_sums(n))) for n in sizes)
    name = "rational row sums that are not i/n"
    return Evidence(
        kind="exhaustive",
        statement=ROW_SUMS,
        checks=(
            Check(name, _not_i_over_n(sizes, inside=False), "==", 0),
            Check("rational row sums that occur twice", repeated, "==", 0),
            Check("float64 row sums that are not i/n, n a power of two", float_wrong, "==", 0),
        ),
        control=Control(
            "the same factor as log|C| inside the softmax",
            (Check(name, _not_i_over_n(sizes, inside=True), "==", 0),),
        ),
        budget=budget,
    )


def _not_i_over_n(sizes: range, inside: bool) -> int:
    return sum(sum_ != Fraction(row, n) for n in sizes for row, sum_ in enumerate(row_sums(n, inside), start=1))


def _gradient(budget: str, seed: int) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    errors, mirrored = [], []
    for n in (1, 2, 3, 8, 33):
        scores = torch.randn(_HEADS, n, n, generator=generator, dtype=torch.float64)
        upstream = torch.randn(_HEADS, n, n, generator=generator, dtype=torch.float64)
        by_offset = torch.randn(_HEADS, 2 * n - 1, generator=generator, dtype=torch.float64).requires_grad_()
        (pattern(scores, toeplitz(by_offset)) * upstream).sum().backward()
        by_hand = diagonal_sums(pattern(scores) * upstream)
        errors.append((by_hand - by_offset.grad).abs().max().item())
        mirrored.append((by_hand.flip(-1) - by_offset.grad).abs().max().item())
    name = "largest difference from automatic differentiation"
    return Evidence(
        kind="numeric",
        statement=FACTOR_GRADIENT,
        checks=(Check(name, max(errors), "<=", 1e-12),),
        control=Control("the sum over i−j=δ instead", (Check(name, max(mirrored), "<=", 1e-12),)),
        seed=seed,
        budget=budget,
        notes="n in 1, 2, 3, 8, 33 with random scores and a random upstream gradient.",
    )


def diagonal_sums(matrix: Float[Tensor, "head query key"]) -> Float[Tensor, "head offset"]:
    """Σ_{j−i=δ} matrix_ij for δ = −(n−1) … n−1."""
    n = matrix.shape[-1]
    return torch.stack([matrix.diagonal(delta, -2, -1).sum(-1) for delta in range(-(n - 1), n)], dim=-1)


def _draw_spreads(by_depth: dict[str, list[Tensor]]) -> object:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    labels = {
        "none": "no factor (RPE)",
        "inside": "log|C| inside softmax",
        "outside": "C after softmax (URPE)",
    }
    for offset, (placement, label) in zip((-0.12, 0.0, 0.12), labels.items(), strict=True):
        # A spread of exactly zero has no place on a logarithmic axis; 1e-17 lies below every rounding error here.
        spread = torch.stack(by_depth[placement]).clamp(min=1e-17)  # [depth draw]
        depths = torch.tensor(list(_DEPTHS)) + offset
        axes.plot(
            depths.repeat_interleave(spread.shape[1]),
            spread.flatten(),
            "o",
            markersize=4,
            alpha=0.5,
            label=label,
        )
    axes.axhline(1e-5, color="grey", linestyle="--", linewidth=1)
    axes.text(6.3, 1e-5, "RPE at most 1e-5", ha="right", va="bottom", fontsize="small")
    axes.axhline(1e-2, color="grey", linestyle=":", linewidth=1)
    axes.text(6.3, 1e-2, "URPE above 1e-2", ha="right", va="bottom", fontsize="small")
    axes.set_yscale("log")
    axes.set(xlabel="layers", ylabel="row spread on a constant input", title="Identical rows: together or apart")
    axes.legend(loc="center left")
    return figure


CLAIMS = (
    Claim(ROW_SPREAD, "numeric", _row_spread),
    Claim(ROW_SUMS, "exhaustive", _row_sums),
    Claim(FACTOR_GRADIENT, "numeric", _gradient),
)

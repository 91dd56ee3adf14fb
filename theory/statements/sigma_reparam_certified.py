"""σReparam's entropy bound by ball arithmetic: every number below is enclosed with its rounding errors.

Source: Zhai et al., "Stabilizing Transformer Training by Preventing Attention Entropy Collapse" (2023).

Tightness: the tight row and weights that produce it are built in balls, and norm, mean, entropy and spectral norms
compared with what they should be.
Minimality, for the grid T ∈ {4, 16, 64}, s ∈ {½, 1, 2, 4, 8}: by `sigma_reparam_symbolic`, a row of norm at most s with
the least entropy has norm s, mean zero and at most three different values. The search covers all such rows, so it
shows that *no* row of norm at most s lies more than 1e-12 nats below the bound. Rows with two values are compared with
the bound itself: all but the tight one lie above it by a certified gap.
"""

from flint import arb, arb_mat, ctx, fmpq, fmpq_mat

from microtome.theory.claim import Claim
from microtome.theory.constructions.sigma_reparam import BALLS, entropy_bound, two_level_entropy, two_levels
from microtome.theory.constructions.sigma_reparam_search import circle_above, three_blocks
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_PAPER = "Zhai et al., Stabilizing Transformer Training by Preventing Attention Entropy Collapse (2023)"
_KEYS = (4, 16, 64)
_NORMS = (0.5, 1.0, 2.0, 4.0, 8.0)
GRID = tuple((keys, norm) for keys in _KEYS for norm in _NORMS)
_SLACK = "1e-12"

TIGHT_WEIGHTS = Statement(
    name="weights whose logits are the tight row",
    text="Orthogonal tokens X, W_K = Xᵀa and W_Q = x₁ give the first query the tight row a: norm s = "
    "‖W_K W_Qᵀ‖₂‖XXᵀ‖₂, mean zero, entropy equal to the bound.",
    hypotheses=("T ∈ {4, 16, 64}", "s ∈ {½, 1, 2, 4, 8}", "the scale 1/√d folded into W_K"),
    source=f"{_PAPER}, tightness of the entropy bound; these weights are this laboratory's",
    slug="sigma_reparam",
)
MINIMALITY = Statement(
    name="no row lies below the entropy bound",
    text="Among all logit rows of norm at most s none has an entropy more than 1e-12 nats below the bound, and among "
    "rows with two values only the tight one comes near it.",
    hypotheses=("T ∈ {4, 16, 64}", "s ∈ {½, 1, 2, 4, 8}"),
    source=f"{_PAPER}, entropy bound",
    slug="sigma_reparam",
)


def tight_logits(keys: int, norm: float) -> arb_mat:
    """The first query's logits X W_K W_Qᵀ x₁ as a column [key], from the weights of `TIGHT_WEIGHTS`.

    X is the Householder reflection of the integers 1..T, so X Xᵀ = 1 holds exactly, in rational numbers.
    """
    X = reflection(keys)
    tokens = arb_mat(X)
    high, low = two_levels(arb(keys), arb(1), arb(norm), BALLS)
    row = arb_mat([[high]] + [[low]] * (keys - 1))
    W_K = tokens.transpose() * row
    W_Q = arb_mat([[tokens[0, feature]] for feature in range(keys)])
    return tokens * W_K * (W_Q.transpose() * W_Q)


def reflection(size: int) -> fmpq_mat:
    """1 − 2vvᵀ/vᵀv for v = (1, …, size): an orthogonal matrix with rational entries, none of them special."""
    v = range(1, size + 1)
    square = sum(entry * entry for entry in v)
    return _identity(size) - fmpq_mat([[fmpq(2 * a * b, square) for b in v] for a in v])


def _identity(size: int) -> fmpq_mat:
    return fmpq_mat([[int(a == b) for b in range(size)] for a in range(size)])


def tightness_radius(keys: int, norm: float, bound_norm: float) -> float:
    """The largest distance, rounding included, of norm², mean and entropy of the produced row from s², 0 and the bound.

    The bound is that of `bound_norm`, which is `norm` for the statement itself. Computed with 128 bits.
    """
    with ctx.workprec(128):
        return _tightness_radius(keys, norm, bound_norm)


def _tightness_radius(keys: int, norm: float, bound_norm: float) -> float:
    produced = tight_logits(keys, norm)
    logits = [produced[key, 0] for key in range(keys)]
    weights = [logit.exp() for logit in logits]
    total = sum(weights, arb(0))
    entropy = total.log() - sum((w * a for w, a in zip(weights, logits, strict=True)), arb(0)) / total
    distances = (
        sum((a * a for a in logits), arb(0)) - arb(norm) ** 2,
        sum(logits, arb(0)) / keys,
        entropy - entropy_bound(arb(keys), arb(bound_norm), BALLS),
    )
    return max(float(abs(distance).upper()) for distance in distances)


def _tight_weights(budget: str, seed: int) -> Evidence:
    name = "largest distance of norm², mean and entropy from s², 0 and the bound"
    not_orthogonal = sum(reflection(T) * reflection(T).transpose() != _identity(T) for T in _KEYS)
    return Evidence(
        kind="certified",
        statement=TIGHT_WEIGHTS,
        checks=(
            Check("token matrices that are not exactly orthogonal", not_orthogonal, "==", 0),
            Check(name, max(tightness_radius(T, s, s) for T, s in GRID), "<=", 1e-30),
        ),
        control=Control(
            "the bound at norm s/2", (Check(name, min(tightness_radius(T, s, s / 2) for T, s in GRID), "<=", 1e-30),)
        ),
        budget=budget,
        notes="W_K W_Qᵀ has rank one, so its spectral norm is ‖W_K‖‖W_Q‖ = s, and ‖XXᵀ‖₂ = 1.",
    )


def circles_not_above(keys: int, norm: float, bound_norm: float) -> int:
    """How many of the circles of three-valued rows are not certified to lie above the bound minus 1e-12."""
    floor = entropy_bound(arb(keys), arb(bound_norm), BALLS) - arb(_SLACK)
    return sum(not circle_above(counts, arb(norm), floor).certified for counts in three_blocks(keys))


def smallest_two_level_gap(keys: int, norm: float) -> float:
    """A certified lower bound on how far rows with 2..T−1 winners and norm s lie above the entropy bound."""
    gaps = []
    for winners in range(2, keys):
        high, low = two_levels(arb(keys), arb(winners), arb(norm), BALLS)
        entropy = two_level_entropy(arb(keys), arb(winners), high - low, BALLS)
        gaps.append(entropy - entropy_bound(arb(keys), arb(norm), BALLS))
    return min(float(gap.lower()) for gap in gaps)


def _minimality(budget: str, seed: int) -> Evidence:
    circles = "circles of three-valued rows not certified above the bound − 1e-12"
    fewest = min(circles_not_above(T, s, s / 2) for T, s in GRID)
    return Evidence(
        kind="certified",
        statement=MINIMALITY,
        checks=(
            Check(circles, sum(circles_not_above(T, s, s) for T, s in GRID), "==", 0),
            Check("smallest gap of two-valued rows", min(smallest_two_level_gap(T, s) for T, s in GRID), ">", 0),
        ),
        control=Control("the bound at norm s/2, where it is violated least often", (Check(circles, fewest, "==", 0),)),
        budget=budget,
    )


CLAIMS = (
    Claim(TIGHT_WEIGHTS, "certified", _tight_weights),
    Claim(MINIMALITY, "certified", _minimality),
)

"""Certified search for the lowest entropy among logit rows with at most three different values.

Rows of mean zero and norm s with `counts` = (k₁, k₂, k₃) equal logits form a circle, a = s(cos θ e₁ + sin θ e₂) with
e₁, e₂ orthonormal and constant on the blocks. An arc with middle θ₀ and half-width r lies above a floor if
H(θ₀) − r·max|H'| does, and balls (python-flint) enclose both terms; an arc that cannot be decided is halved. Rows with
fewer values lie on the same circles.
"""

from dataclasses import dataclass

from flint import arb

from microtome.theory.constructions.sigma_reparam import BALLS, two_levels

_FIRST_LEVEL, _LAST_LEVEL = 4, 40  # 2^level arcs a circle


@dataclass(frozen=True)
class Verdict:
    """`certified`: every row of the circle lies above the floor. `arcs`: how many arcs were looked at.

    `below` is an angle whose row certainly lies below the floor, if one was found.
    """

    certified: bool
    arcs: int
    below: float | None = None


def circle_above(counts: tuple[int, int, int], norm: arb, floor: arb) -> Verdict:
    """Whether every row with these block sizes, mean zero and this norm has an entropy above `floor` nats."""
    circle = _Circle(counts, norm)
    arcs = [(_FIRST_LEVEL, index) for index in range(2**_FIRST_LEVEL)]
    looked_at = 0
    while arcs:
        level, index = arcs.pop()
        looked_at += 1
        # Whole numbers over powers of two are exact, so that neighbouring arcs share their end without a gap.
        half_width = arb.pi() / 2**level
        middle = (2 * index + 1) * half_width
        entropy = circle.entropy(middle)
        if entropy < floor:
            return Verdict(False, looked_at, float(middle))
        slope = circle.slope(arb(2 * index + 1, 1) * half_width)
        if entropy - abs(slope) * half_width > floor:
            continue
        if level == _LAST_LEVEL:
            return Verdict(False, looked_at)
        arcs += [(level + 1, 2 * index), (level + 1, 2 * index + 1)]
    return Verdict(True, looked_at)


def three_blocks(keys: int) -> list[tuple[int, int, int]]:
    """Every way to split `keys` ≥ 3 into three positive block sizes, order aside."""
    return [
        (first, second, keys - first - second)
        for first in range(1, keys // 3 + 1)
        for second in range(first, (keys - first) // 2 + 1)
    ]


class _Circle:
    """Entropy and its slope along θ ↦ s(cos θ e₁ + sin θ e₂), on balls of θ."""

    def __init__(self, counts: tuple[int, int, int], norm: arb):
        first, second, third = self.counts = tuple(arb(count) for count in counts)
        high, low = two_levels(first + second + third, first, norm, BALLS)
        above, below = two_levels(second + third, second, norm, BALLS)
        self.cosine_axis = (high, low, low)
        self.sine_axis = (arb(0), above, below)

    def entropy(self, theta: arb) -> arb:
        logits, weights, total = self._softmax(theta)
        return total.log() - self._mean(logits, weights, total)

    def slope(self, theta: arb) -> arb:
        """dH/dθ = −Σ_b k_b p_b (a_b − ā) a_b', with ā = Σ_b k_b p_b a_b."""
        logits, weights, total = self._softmax(theta)
        mean = self._mean(logits, weights, total)
        cosine, sine = theta.cos(), theta.sin()
        moves = [cosine * y - sine * x for x, y in zip(self.cosine_axis, self.sine_axis, strict=True)]
        pulls = [(logit - mean) * move for logit, move in zip(logits, moves, strict=True)]
        return -self._mean(pulls, weights, total)

    def _softmax(self, theta: arb) -> tuple[list[arb], list[arb], arb]:
        cosine, sine = theta.cos(), theta.sin()
        logits = [cosine * x + sine * y for x, y in zip(self.cosine_axis, self.sine_axis, strict=True)]
        weights = [count * logit.exp() for count, logit in zip(self.counts, logits, strict=True)]
        return logits, weights, sum(weights, arb(0))

    @staticmethod
    def _mean(values: list[arb], weights: list[arb], total: arb) -> arb:
        return sum((weight * value for weight, value in zip(weights, values, strict=True)), arb(0)) / total

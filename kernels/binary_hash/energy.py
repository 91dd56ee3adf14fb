"""Multiplications, additions and their energy in hashed attention and in softmax attention, for one head.

At 45 nm a multiplication of two float32 takes 3.7 pJ and an addition 0.9 pJ (Horowitz 2014, "Computing's energy
problem"), which is the model of Liu et al. 2022, "EcoFormer" (section 4.4, slug `ecoformer`). The counts are the
paper's: squares of the kernel map's distances are additions there, and exponentials are not counted.
"""

from dataclasses import dataclass

MULTIPLY, ADD = 3.7, 0.9
"""Picojoules of an operation in float32."""


@dataclass(frozen=True)
class Operations:
    """Counts of both operations. Counts add up."""

    multiplies: int = 0
    adds: int = 0

    def __add__(self, other: "Operations") -> "Operations":
        return Operations(self.multiplies + other.multiplies, self.adds + other.adds)

    @property
    def picojoules(self) -> float:
        return MULTIPLY * self.multiplies + ADD * self.adds


def hashed_stages(n: int, d: int, anchors: int = 25, bits: int = 16) -> dict[str, Operations]:
    """What each stage of hashed attention takes, for n tokens of width d."""
    _check(n=n, d=d, anchors=anchors, bits=bits)
    return {
        "distances to the anchors": Operations(adds=2 * n * anchors * d),
        "kernel of the distances": Operations(multiplies=2 * n * anchors),
        "projection of the kernel map": Operations(n * anchors * bits, n * anchors * bits),
        "codes": Operations(multiplies=n * bits),
        "sums of codes and of codes by values": Operations(adds=n * bits + n * bits * d),
        "products with each code": Operations(adds=n * bits + n * bits * d),
        "constant": Operations(multiplies=n, adds=n * d),
        "division": Operations(multiplies=n * d),
    }


def hashed(n: int, d: int, anchors: int = 25, bits: int = 16) -> Operations:
    """Hashed attention as a whole: linear in n. Raises ValueError for a size below 1."""
    return sum(hashed_stages(n, d, anchors, bits).values(), Operations())


def softmax(n: int, d: int) -> Operations:
    """Softmax attention: scores, their normalisation, and the weighted values. Raises ValueError for a size below 1."""
    _check(n=n, d=d)
    return Operations(multiplies=2 * n * n * d + n * n, adds=2 * n * n * d)


def _check(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, not {size}.")

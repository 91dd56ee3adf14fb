"""What the study of discrete functions takes for granted about them, tried on every function and input of few bits.

Source: "Understanding In-Context Learning in Transformers and LLMs by Learning to Learn Discrete Functions",
Bhattamishra, Patel, Blunsom and Kanade 2024, icl_boolean.
"""

import itertools
from fractions import Fraction

import torch
from torch import Tensor

from microtome.lab.tasks.boolean import Conjunction, Disjunction
from microtome.lab.tasks.boolean.teaching import length, teach
from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

SLUG = "icl_boolean"
_PAPER = "Bhattamishra et al., Understanding In-Context Learning … by Learning to Learn Discrete Functions (2024)"
_BITS = {"quick": 4, "full": 6}

TEACHING = Statement(
    name="a teaching sequence leaves one conjunction",
    text="The t + 2 examples of a general conjunction of t literals, and the t + 1 of a monotone one, agree with that "
    "conjunction alone.",
    hypotheses=("every conjunction of up to n bits, n = 4 at the quick budget and 6 at the full one",),
    source=f"{_PAPER}, teaching sequences",
    slug=SLUG,
)
DUALITY = Statement(
    name="disjunctions are complements of conjunctions",
    text="The disjunction of the literals w is −1 times the conjunction of the literals −w at every x, so that both "
    "classes are equally hard.",
    hypotheses=("every w in {0, ±1}ⁿ and every x in {±1}ⁿ, n = 4 at the quick budget and 6 at the full one",),
    source=f"{_PAPER}, the classes of functions",
    slug=SLUG,
)
BALANCE = Statement(
    name="how often a conjunction is true",
    text="P(y = +1) = φ + (1 − φ)(1 − p/2)ⁿ for literals with probability p a coordinate and a share φ of forced "
    "examples; .3074 for n = 28, p = φ = .3.",
    hypotheses=("rational arithmetic over every w and every x for n up to 3 (quick) or 4 (full)",),
    source=f"{_PAPER}, distributions over functions and inputs",
    slug=SLUG,
)


def every(values: tuple[int, ...], dim: int) -> Tensor:
    """All vectors over these values, [values**dim, dim]."""
    return torch.tensor(list(itertools.product(values, repeat=dim)), dtype=torch.float64)


def consistent(dim: int, monotone: bool, dropped: int = 0) -> Tensor:
    """How many conjunctions agree with the teaching sequence of each, its last `dropped` examples left out."""
    w = every((0, 1) if monotone else (0, 1, -1), dim)
    xs = teach(w, torch.zeros(len(w), dim + 2, dim, dtype=w.dtype), monotone)
    ys = Conjunction(dim).evaluate({"w": w}, xs)
    told = torch.arange(dim + 2) < length(w, monotone)[:, None] - dropped
    said = torch.where(torch.einsum("bpd,hd->bhp", xs, w) == w.abs().sum(1)[:, None], 1.0, -1.0)
    return ((said == ys[:, None]) | ~told[:, None]).all(-1).sum(-1)


def _teaching(budget: str, seed: int) -> Evidence:
    dims = range(1, _BITS[budget] + 1)

    def most(dropped: int) -> tuple[Check, ...]:
        return tuple(
            Check(
                f"most {'monotone' if monotone else 'general'} conjunctions left",
                max(int(consistent(n, monotone, dropped).max()) for n in dims),
                "==",
                1,
            )
            for monotone in (True, False)
        )

    return Evidence(
        kind="exhaustive",
        statement=TEACHING,
        checks=most(0),
        control=Control("the same sequences without their last example", most(1)),
        budget=budget,
    )


def _duality(budget: str, seed: int) -> Evidence:
    n = _BITS[budget]
    w, x = every((0, 1, -1), n), every((1, -1), n).expand(3**n, -1, -1)

    def differing(sign: int) -> Check:
        same = Disjunction(n).evaluate({"w": w}, x) == -Conjunction(n).evaluate({"w": sign * w}, x)
        return Check("pairs of w and x at which they differ", int((~same).sum()), "==", 0)

    return Evidence(
        kind="exhaustive",
        statement=DUALITY,
        checks=(differing(-1),),
        control=Control("the conjunction of the same literals", (differing(1),)),
        budget=budget,
    )


def plus_by_enumeration(dim: int, relevant: Fraction, force: Fraction) -> Fraction:
    """P(y = +1) of one example, summed over every w and, for those not forced, every x."""
    w, x = every((0, 1, -1), dim), every((1, -1), dim)
    true = (Conjunction(dim).evaluate({"w": w}, x.expand(len(w), -1, -1)) > 0).sum(1).tolist()
    sizes = w.abs().sum(1).int().tolist()
    return sum(
        (relevant / 2) ** t * (1 - relevant) ** (dim - t) * (force + (1 - force) * Fraction(count, 2**dim))
        for t, count in zip(sizes, true, strict=True)
    )


def _balance(budget: str, seed: int) -> Evidence:
    third, half = Fraction(3, 10), Fraction(1, 2)
    laws = [
        (n, p, force) for n in range(1, _BITS[budget] // 2 + 2) for p in (third, half) for force in (0 * half, third)
    ]

    def wrong(share: Fraction) -> Check:
        found = sum(
            plus_by_enumeration(n, p, force) != force + (1 - force) * (1 - share * p) ** n for n, p, force in laws
        )
        return Check("laws whose frequency differs from the formula", found, "==", 0)

    published = float(third + (1 - third) * (1 - third / 2) ** 28)
    return Evidence(
        kind="exhaustive",
        statement=BALANCE,
        checks=(wrong(half), Check("distance of the formula at n = 28 from .3074", abs(published - 0.3074), "<", 5e-5)),
        control=Control("the formula without the factor ½", (wrong(Fraction(1)),)),
        budget=budget,
    )


CLAIMS = (
    Claim(TEACHING, "exhaustive", _teaching),
    Claim(DUALITY, "exhaustive", _duality),
    Claim(BALANCE, "exhaustive", _balance),
)

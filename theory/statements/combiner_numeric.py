"""Combiner, measured: its weights have full support, and a query makes few logits.

Source: Ren et al., "Combiner: Full Attention Transformer with Sparse Computation Cost" (2021).
"""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from microtome.lab.zoo.mixers import _combiner
from microtome.lab.zoo.mixers._combiner import Input
from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_PAPER = "Ren et al., Combiner: Full Attention Transformer with Sparse Computation Cost (2021)"
LENGTHS = (17, 33, 64)
N, SEGMENT = 1024, 32

SUPPORT = Statement(
    name="every earlier key has weight, no later one",
    text="Each row of weights is positive exactly at j ≤ i and sums to one, at every length, 2^p + 1 included.",
    hypotheses=(f"fixed and mixture patterns with w = 8, logsparse; n = {', '.join(map(str, LENGTHS))}", "float64"),
    source=f"{_PAPER}, propositions on full support",
    slug="combiner",
)
COST = Statement(
    name="few logits a query",
    text=f"At n = {N:,} fixed segments of {SEGMENT} make w + n/w = {SEGMENT + N // SEGMENT} logits a query, logsparse "
    f"{(N - 1).bit_length() + 1}; full attention makes {N:,}.",
    hypotheses=("elements of the softmax counted while the code runs",),
    source=f"{_PAPER}, table of complexities",
    slug="combiner",
)


class _Softmaxed(TorchDispatchMode):
    """Counts the elements that go through softmax over more than the keys of one region."""

    def __init__(self):
        super().__init__()
        self.elements: list[int] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ == "_softmax":
            self.elements.append(args[0].numel())
        return function(*args, **(kwargs or {}))


def drawn(n: int, generator: torch.Generator) -> Input:
    """One head of random queries and keys of width 8, values the unit matrix."""
    q, k = (torch.randn(1, 1, n, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    unit = torch.eye(n, dtype=torch.float64)[None, None]
    return Input(q, k, unit, torch.ones(1, n, dtype=torch.bool), True, "max")


def patterns(given: Input) -> dict[str, Tensor]:
    """The n × n weights of three patterns."""
    return {
        "fixed": _combiner.fixed(given, 8),
        "logsparse": _combiner.logsparse(given),
        "mixture": _combiner.mixture(given, 8),
    }


def _support(budget: str, seed: int) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    wrong, off = 0, 0.0
    for n in LENGTHS:
        past = torch.ones(n, n, dtype=torch.bool).tril()
        for weights in patterns(drawn(n, generator)).values():
            wrong += int(((weights[0, 0] > 0) != past).sum())
            off = max(off, float((weights.sum(-1) - 1).abs().max()))
    segment = torch.arange(64) // 8
    sparse = (segment[:, None] == segment) | (torch.arange(64) % 8 == 7)
    missed = int((~sparse & torch.ones(64, 64, dtype=torch.bool).tril()).sum())
    name = "places with weight that should have none, or none that should"
    return Evidence(
        kind="numeric",
        statement=SUPPORT,
        checks=(Check(name, wrong, "==", 0), Check("largest |row sum − 1|", off, "<=", 1e-12)),
        control=Control("own segment and the last token of earlier ones", (Check(name, missed, "==", 0),)),
        seed=seed,
        budget=budget,
    )


def logits_a_query(compute) -> int:
    """The largest softmax that `compute` makes, an input of N positions, over N."""
    with torch.no_grad(), _Softmaxed() as counter:
        compute()
    return max(counter.elements) // N


def _cost(budget: str, seed: int) -> Evidence:
    given = drawn(N, torch.Generator().manual_seed(seed))._replace(v=torch.ones(1, 1, N, 1, dtype=torch.float64))
    found = {
        "fixed": logits_a_query(lambda: _combiner.fixed(given, SEGMENT)),
        "logsparse": logits_a_query(lambda: _combiner.logsparse(given)),
        "full attention": logits_a_query(lambda: (given.q @ given.k.mT).softmax(-1) @ given.v),
    }
    fixed, logsparse = SEGMENT + N // SEGMENT, (N - 1).bit_length() + 1
    name = "logits a query, fixed"
    return Evidence(
        kind="numeric",
        statement=COST,
        checks=(
            Check(name, found["fixed"], "<=", fixed),
            Check("logits a query, logsparse", found["logsparse"], "<=", logsparse),
        ),
        control=Control("full attention", (Check(name, found["full attention"], "<=", fixed),)),
        seed=seed,
        budget=budget,
    )


CLAIMS = (Claim(SUPPORT, "numeric", _support), Claim(COST, "numeric", _cost))

"""How prompts of each class are drawn in the code that was published with the papers, re-expressed in our words.

Nothing is copied; what is kept is the way: where that code loops over prompts, points or basis functions in Python this
one does, and where it draws a batch at once this one does. Each function draws xs [batch points dim] and ys
[batch points] from a torch and a numpy generator. Sources: Garg et al. 2022 (`in-context-learning`), Panwar, Ahuja &
Goyal 2024 (`icl-bayesian-prism`), Bhattamishra et al. 2024 (`incontext-bool`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

Pairs = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Sizes:
    """Of a batch, with the generators that fill it."""

    batch: int
    points: int
    dim: int
    torch: torch.Generator
    numpy: np.random.Generator

    def normal(self, *size: int) -> Tensor:
        return torch.randn(*size, generator=self.torch)

    def inputs(self) -> Tensor:
        return self.normal(self.batch, self.points, self.dim)

    def bits(self) -> Tensor:
        size = (self.batch, self.points, self.dim)
        return torch.randint(0, 2, size, generator=self.torch).float() * 2 - 1

    def literals(self, share: float) -> Tensor:
        chances = [1 - share, share / 2, share / 2]
        return torch.from_numpy(self.numpy.choice([0.0, 1.0, -1.0], (self.batch, self.dim, 1), p=chances)).float()


def linear(sizes: Sizes, w: Tensor) -> Pairs:
    xs = sizes.inputs()
    return xs, (xs @ w)[:, :, 0]


def dense(sizes: Sizes) -> Pairs:
    return linear(sizes, sizes.normal(sizes.batch, sizes.dim, 1))


def sparse(sizes: Sizes, support: int = 3) -> Pairs:
    w = sizes.normal(sizes.batch, sizes.dim, 1)
    for b in range(sizes.batch):
        zero = torch.ones(sizes.dim, dtype=torch.bool)
        zero[torch.randperm(sizes.dim, generator=sizes.torch)[:support]] = False
        w[b, zero] = 0
    return linear(sizes, w)


def signs(sizes: Sizes) -> Pairs:
    w = torch.randint(0, 2, (sizes.batch, sizes.dim, 1), generator=sizes.torch).float() * 2 - 1
    return linear(sizes, w)


def low_rank(sizes: Sizes, side: int = 10, rank: int = 1) -> Pairs:
    factor = sizes.normal(sizes.batch, rank, side)
    w = (factor.transpose(1, 2) @ factor).reshape(sizes.batch, side * side, 1)
    xs = sizes.normal(sizes.batch, sizes.points, side * side)
    return xs, (xs @ w)[:, :, 0]


def one_a_call(sampler: Callable[[Sizes], Pairs], sizes: Sizes) -> Pairs:
    """A prompt a call: how a sampler that draws one component a call gives every prompt its own."""
    pairs = [sampler(replace(sizes, batch=1)) for _ in range(sizes.batch)]
    return torch.cat([xs for xs, _ in pairs]), torch.cat([ys for _, ys in pairs])


def two_sided(sizes: Sizes) -> Pairs:
    """One component for the whole batch."""
    side = 3.0 if sizes.numpy.random() < 0.5 else -3.0
    w = sizes.normal(sizes.batch, sizes.dim, 1)
    w[:, 0] = side + 1e-4 * w[:, 0]
    return linear(sizes, w)


def pool(sizes: Sizes, tasks: Tensor) -> Pairs:
    chosen = torch.randint(len(tasks), (sizes.batch,), generator=sizes.torch)
    xs, ys = linear(sizes, tasks[chosen])
    return xs, ys + 0.5 * sizes.normal(*ys.shape)


def tree(sizes: Sizes, depth: int = 4) -> Pairs:
    xs = sizes.inputs()
    nodes = (sizes.batch, 2 ** (depth + 1) - 1)
    asked, values = torch.randint(0, sizes.dim, nodes, generator=sizes.torch), sizes.normal(*nodes)
    ys = torch.zeros(sizes.batch, sizes.points)
    for b in range(sizes.batch):
        positive, at = xs[b] > 0, torch.zeros(sizes.points, dtype=torch.long)
        for _ in range(depth):
            at = 2 * at + 1 + positive[torch.arange(sizes.points), asked[b][at]].long()
        ys[b] = values[b][at]
    return xs, ys


def network(sizes: Sizes, hidden: int = 100) -> Pairs:
    xs = sizes.inputs()
    w_in, w_out = sizes.normal(sizes.batch, sizes.dim, hidden), sizes.normal(sizes.batch, hidden, 1)
    return xs, (torch.relu(xs @ w_in) @ w_out)[:, :, 0] * math.sqrt(2 / hidden)


def monomials(sizes: Sizes, size: int = 20) -> Pairs:
    """A set of its own for every prompt, as the paper draws it: two permutations a prompt."""
    xs = sizes.inputs()
    places = [
        torch.stack([torch.randperm(sizes.dim, generator=sizes.torch)[:size] for _ in range(sizes.batch)])
        for _ in range(2)
    ]
    first, second = (xs.gather(2, at[:, None].expand(-1, sizes.points, -1)) for at in places)
    return xs, (first * second @ sizes.normal(sizes.batch, size, 1))[:, :, 0] / math.sqrt(size)


def fourier(sizes: Sizes, frequencies: int = 10, mixed: bool = False) -> Pairs:
    xs = torch.rand(sizes.batch, sizes.points, 1, generator=sizes.torch) * 10 - 5
    a, b = sizes.normal(sizes.batch, frequencies + 1), sizes.normal(sizes.batch, frequencies)
    if mixed:
        highest = torch.randint(1, frequencies + 1, (sizes.batch, 1), generator=sizes.torch)
        used = torch.arange(1, frequencies + 1)[None] <= highest
        a[:, 1:], b = a[:, 1:] * used, b * used
    cosines = a[:, None] * torch.cos(math.pi / 5 * torch.arange(frequencies + 1) * xs)
    sines = b[:, None] * torch.sin(math.pi / 5 * torch.arange(1, frequencies + 1) * xs)
    return xs, (cosines.sum(-1) + sines.sum(-1)) / math.sqrt(frequencies)


def haar(sizes: Sizes, levels: int = 3) -> Pairs:
    """A function of one number a basis element, vectorised by numpy, for every prompt."""

    def mother(t: float) -> float:
        return (1.0 if t < 0.5 else -1.0) if 0 <= t < 1 else 0.0

    def element(level: int, k: int):
        return np.vectorize(lambda t: 2 ** (level / 2) * mother(2**level * t - k), otypes=[np.float32])

    basis = [np.vectorize(lambda t: 1.0, otypes=[np.float32])]
    basis += [element(level, k) for level in range(levels + 1) for k in range(2**level)]
    xs = torch.rand(sizes.batch, sizes.points, 1, generator=sizes.torch)
    w = sizes.normal(sizes.batch, len(basis))
    feats = [torch.from_numpy(np.stack([f(x) for f in basis])) for x in xs[:, :, 0].numpy()]
    return xs, torch.stack([weights @ each for weights, each in zip(w, feats, strict=True)]) / len(basis)


def mixture(sizes: Sizes) -> Pairs:
    """One class for the whole batch."""
    xs, ys = dense(sizes) if sizes.numpy.random() < 0.5 else signs(sizes)
    return xs, ys / math.sqrt(sizes.dim)


def force(sizes: Sizes, xs: Tensor, literals: Tensor, share: float, sign: float) -> None:
    """Makes some inputs agree with all the literals, point by point."""
    for b in range(sizes.batch):
        w = literals[b, :, 0]
        positive = [i for i in range(sizes.dim) if w[i] == 1]
        negative = [i for i in range(sizes.dim) if w[i] == -1]
        for i in range(sizes.points):
            if sizes.numpy.choice([0, 1], p=[1 - share, share]):
                xs[b, i, positive], xs[b, i, negative] = sign, -sign


def conjunction(sizes: Sizes) -> Pairs:
    xs, w = sizes.bits(), sizes.literals(0.3)
    force(sizes, xs, w, 0.3, 1.0)
    return xs, torch.where((xs @ w)[:, :, 0] > w.abs().sum(1) - 1, 1.0, -1.0)


def disjunction(sizes: Sizes) -> Pairs:
    xs, w = sizes.bits(), sizes.literals(0.3)
    force(sizes, xs, w, 0.3, -1.0)
    return xs, torch.where((xs @ w)[:, :, 0] > 1 - w.abs().sum(1), 1.0, -1.0)


def normal_form(sizes: Sizes, outer: str) -> Pairs:
    """Three clauses, the first of which is forced; "dnf" or "cnf"."""
    xs, clauses = sizes.bits(), [sizes.literals(0.2) for _ in range(3)]
    sign = 1.0 if outer == "dnf" else -1.0
    force(sizes, xs, clauses[0], 0.3, sign)
    holds = [sign * (xs @ w)[:, :, 0] > w.abs().sum(1) - 1 for w in clauses]
    any_ = torch.stack(holds).any(0).float() * 2 - 1
    return xs, sign * any_


def nearest(sizes: Sizes, start: int = 20) -> Pairs:
    xs = sizes.bits()
    ys = torch.randint(0, 2, (sizes.batch, sizes.points), generator=sizes.torch).float() * 2 - 1
    for i in range(start, sizes.points):
        for b in range(sizes.batch):
            ys[b, i] = ys[b, int((xs[b, :i] @ xs[b, i]).argmax())]
    return xs, ys


def parity(sizes: Sizes, bits: int | None = None) -> Pairs:
    w = torch.zeros(sizes.batch, sizes.dim, 1)
    for b in range(sizes.batch):
        size = bits if bits is not None else int(sizes.numpy.binomial(sizes.dim, 0.5))
        w[b, sizes.numpy.choice(sizes.dim, size, replace=False), 0] = 1
    xs = sizes.bits()
    return xs, (((xs + 1) / 2 @ w)[:, :, 0] % 2) * 2 - 1


def threshold(sizes: Sizes) -> Pairs:
    xs, w = sizes.bits(), sizes.literals(0.3)
    bound = torch.randint(-3, 4, (sizes.batch, 1), generator=sizes.torch) - 0.5
    return xs, ((xs @ w)[:, :, 0] - bound).sign()


def halfspace(sizes: Sizes) -> Pairs:
    xs = sizes.bits()
    w = torch.randint(-3, 4, (sizes.batch, sizes.dim, 1), generator=sizes.torch) - 0.5
    return xs, (xs @ w)[:, :, 0].sign()


def majority(sizes: Sizes) -> Pairs:
    xs, w = sizes.bits(), sizes.literals(0.3).abs()
    return xs, ((xs @ w)[:, :, 0] - 0.5).sign()

"""The exact answers for Boolean functions against the definition: every function of a tiny class, one after the other.

The brute force below is written from the definitions of "Understanding In-Context Learning in Transformers and LLMs by
Learning to Learn Discrete Functions" (Bhattamishra et al. 2024, icl_boolean) and shares nothing with the package.
"""

import itertools
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from microtome.lab.tasks.boolean import (
    CNF,
    DNF,
    BooleanTask,
    Conjunction,
    Disjunction,
    IntegerHalfspace,
    NearestNeighbour,
    Parity,
    PromptPool,
    SparseMajority,
    SparseThreshold,
)

Point = tuple[int, ...]
Hypothesis = tuple[float, Callable[[Point], int], Callable[[Point], float]]
"""Prior, value at x, and probability of x."""


def weights(dim: int, relevant: float, monotone: bool, size: int | None = None) -> Iterator[tuple[float, Point]]:
    for w in itertools.product((0, 1) if monotone else (0, 1, -1), repeat=dim):
        t = sum(map(abs, w))
        if size is None:
            yield math.prod(1 - relevant if v == 0 else relevant / (1 if monotone else 2) for v in w), w
        elif t == size:
            yield 1 / (math.comb(dim, size) * (1 if monotone else 2) ** size), w


def holds(w: Point, x: Point) -> bool:
    return all(v in (0, b) for v, b in zip(w, x, strict=True))


def fails(w: Point, x: Point) -> bool:
    return all(v in (0, -b) for v, b in zip(w, x, strict=True))


def forced(force: float, made: bool, w: Point) -> float:
    """Probability of an x that has (or has not) the form that forced ones have."""
    n, t = len(w), sum(map(abs, w))
    return (1 - force) / 2**n + (force / 2 ** (n - t) if made else 0)


def hypotheses(task: BooleanTask) -> list[Hypothesis]:
    uniform = 1 / 2**task.dim
    match task:
        case Conjunction() | Disjunction():
            conjunction = isinstance(task, Conjunction)
            meets = holds if conjunction else fails
            return [
                (
                    p,
                    lambda x, w=w: 1 if meets(w, x) == conjunction else -1,
                    lambda x, w=w: forced(task.force, meets(w, x), w),
                )
                for p, w in weights(task.dim, task.relevant, task.monotone, task.sparsity)
            ]
        case DNF() | CNF():
            meets = holds if isinstance(task, DNF) else fails
            each = list(weights(task.dim, task.relevant, task.monotone))
            return [
                (
                    math.prod(p for p, _ in clauses) / task.clauses,
                    lambda x, clauses=clauses: (
                        1 if any(meets(w, x) for _, w in clauses) == isinstance(task, DNF) else -1
                    ),
                    lambda x, w=clauses[chosen][1]: forced(task.force, meets(w, x), w),
                )
                for clauses in itertools.product(each, repeat=task.clauses)
                for chosen in range(task.clauses)
            ]
        case SparseThreshold():
            offsets = [k + 0.5 for k in range(-task.bound, task.bound)]
            pairs = [(p / len(offsets), w, k) for p, w in weights(task.dim, task.relevant, False) for k in offsets]
        case SparseMajority():
            pairs = [(p, w, 0.5) for p, w in weights(task.dim, task.relevant, True)]
        case IntegerHalfspace():
            values = range(-task.bound, task.bound + 1)
            pairs = [(1 / len(values) ** task.dim, w, 0.5) for w in itertools.product(values, repeat=task.dim)]
        case Parity():
            return [
                (
                    p,
                    lambda x, w=w: 1 if sum(v * (b == 1) for v, b in zip(w, x, strict=True)) % 2 else -1,
                    lambda x: uniform,
                )
                for p, w in weights(task.dim, 0.5, True, task.sparsity)
            ]
    return [
        (p, lambda x, w=w, k=k: 1 if sum(v * b for v, b in zip(w, x, strict=True)) > k else -1, lambda x: uniform)
        for p, w, k in pairs
    ]


def brute_force(task: BooleanTask, xs: Tensor, ys: Tensor) -> Tensor:
    """P(+1) − P(−1), [batch points]."""
    functions = hypotheses(task)
    assert sum(p for p, _, _ in functions) == pytest.approx(1)
    means = torch.zeros(ys.shape, dtype=torch.float64)
    for b, (points, labels) in enumerate(zip(xs.long().tolist(), ys.tolist(), strict=True)):
        joint = [p for p, _, _ in functions]
        for i, (x, y) in enumerate(zip(map(tuple, points), labels, strict=True)):
            joint = [p * px(x) for p, (_, _, px) in zip(joint, functions, strict=True)]
            values = [f(x) for _, f, _ in functions]
            mean = sum(p * v for p, v in zip(joint, values, strict=True)) / sum(joint)
            means[b, i] = (1 - 2 * task.noise) * mean
            joint = [p * ((1 - task.noise) if v == y else task.noise) for p, v in zip(joint, values, strict=True)]
            joint = [p / sum(joint) for p in joint]
    return means


TINY = {
    "conjunction": Conjunction(3),
    "conjunction, other literals": Conjunction(3, relevant=0.5, force=0.6),
    "conjunction, not forced": Conjunction(3, force=0.0),
    "conjunction, always forced": Conjunction(3, force=1.0),
    "monotone conjunction": Conjunction(4, monotone=True),
    "noisy conjunction": Conjunction(3, noise=0.2),
    "one bit": Conjunction(1),
    "every literal": Conjunction(3, relevant=1.0),
    "no literal": Conjunction(3, relevant=0.0),
    "constant conjunction": Conjunction(3, sparsity=0),
    "sparse conjunction": Conjunction(4, sparsity=2),
    "disjunction": Disjunction(3),
    "noisy disjunction": Disjunction(3, noise=0.1),
    "sparse disjunction": Disjunction(5, monotone=True, sparsity=2),
    "dnf": DNF(2),
    "dnf, two clauses": DNF(3, clauses=2),
    "dnf, one clause": DNF(3, clauses=1),
    "monotone dnf": DNF(3, relevant=0.5, monotone=True),
    "noisy dnf": DNF(2, noise=0.15),
    "cnf": CNF(2),
    "noisy cnf": CNF(2, clauses=2, noise=0.15),
    "threshold": SparseThreshold(3),
    "noisy threshold": SparseThreshold(3, bound=2, noise=0.3),
    "halfspace": IntegerHalfspace(3, bound=1),
    "noisy halfspace": IntegerHalfspace(2, noise=0.1),
    "majority": SparseMajority(4),
    "noisy majority": SparseMajority(4, noise=0.1),
    "parity": Parity(4),
    "noisy parity": Parity(4, noise=0.1),
    "pure noise": Parity(3, noise=0.5),
    "sparse parity": Parity(5, sparsity=2),
}


@pytest.mark.parametrize("task", TINY.values(), ids=TINY)
def test_the_posterior_is_that_of_brute_force(task: BooleanTask, generator: torch.Generator) -> None:
    prompt = task.sample(3 if isinstance(task, DNF | CNF) else 12, 6, generator, dtype=torch.float64)
    wanted = brute_force(task, prompt.xs, prompt.ys)
    exact = task.bayes()
    torch.testing.assert_close(exact.law(prompt.xs, prompt.ys).mean, wanted, rtol=1e-9, atol=1e-9)
    said = exact.predict(prompt.xs, prompt.ys)
    torch.testing.assert_close(said.mean, wanted, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(said.variance, 1 - wanted**2, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_nearest_neighbours_against_all_coins(noise: float, generator: torch.Generator) -> None:
    """Every assignment of the drawn labels, with the labels of the prompt worked out point by point."""
    task = NearestNeighbour(3, start=4, noise=noise)
    prompt = task.sample(40, 9, generator, dtype=torch.float64)
    wanted = torch.zeros_like(prompt.ys)
    for b, points in enumerate(prompt.xs):
        coins = [clean_labels(points, coin, task.start) for coin in itertools.product((1, -1), repeat=task.start)]
        weight = [1.0] * len(coins)
        for i in range(len(points)):
            total = sum(weight)
            wanted[b, i] = (1 - 2 * noise) * sum(p * c[i] for p, c in zip(weight, coins, strict=True)) / total
            weight = [p * (1 - noise if c[i] == prompt.ys[b, i] else noise) for p, c in zip(weight, coins, strict=True)]
    torch.testing.assert_close(task.bayes().law(prompt.xs, prompt.ys).mean, wanted, rtol=1e-9, atol=1e-9)


def clean_labels(points: Tensor, coins: tuple[int, ...], start: int) -> list[int]:
    labels: list[int] = []
    for i, x in enumerate(points):
        agreement = [int((x == other).sum()) for other in points[:i]]
        nearest = agreement.index(max(agreement)) if agreement else None
        if i < start and (nearest is None or agreement[nearest] < len(x)):
            labels.append(coins[i])
        else:
            labels.append(labels[nearest])
    return labels


def test_a_pool_is_remembered(generator: torch.Generator) -> None:
    """Of two equally likely prompts that begin alike, the mean is that of both until they part."""
    pool = PromptPool(Conjunction(2), size=30, points=6, seed=1)
    prompt = pool.sample(50, 6, generator, dtype=torch.float64)
    known = list(zip(pool.prompts.xs.tolist(), pool.prompts.ys.tolist(), strict=True))
    said = pool.bayes().law(prompt.xs, prompt.ys).mean
    for b, (xs, ys) in enumerate(zip(prompt.xs.tolist(), prompt.ys.tolist(), strict=True)):
        for i in range(6):
            same = [y[i] for x, y in known if x[: i + 1] == xs[: i + 1] and y[:i] == ys[:i]]
            assert said[b, i].item() == pytest.approx(sum(same) / len(same))

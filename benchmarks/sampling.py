"""Drawing a batch of prompts of every class, beside the way of the papers' code (`published_samplers`).

64 prompts of 41 points in 20 dimensions (series have one, matrices 100), labels included, on one thread; milliseconds
of processor time, which other work on the machine does not enter, are medians of 15 rounds in turn. Where the published
way loops over prompts in Python ours is to be at least ten times as fast, and nowhere slower; the last column says
where it is not, with 10 % of room for the noise of a timing. The inputs alone, which both ways must draw, take 0.2 ms:
a loop that costs less than 2 ms cannot be beaten tenfold.

The published mixtures draw one component a call: for our law, a component a prompt, they are called prompt by prompt;
the rows "theirs a batch" show what their own law, one component for all 64 prompts, takes them. A class is added by a
row in `rows`. Run: python benchmarks/sampling.py
"""

import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import published_samplers as published
import torch
from timing import machine

from microtome.lab.tasks import LinearRegression
from microtome.lab.tasks.boolean import conjunctions, nearest, normal_forms, parities, thresholds
from microtome.lab.tasks.families import Subsets
from microtome.lab.tasks.features import Fourier, Haar, Monomials
from microtome.lab.tasks.mixtures import Mixture
from microtome.lab.tasks.networks import ReLUNetwork
from microtome.lab.tasks.priors import GaussianMixtureRegression, LowRank, SignVector, TaskPool
from microtome.lab.tasks.protocol import Task
from microtome.lab.tasks.trees import DecisionTree

BATCH, POINTS, DIM = 64, 41, 20
ROOM = 1.1
ROUNDS, ROUND_MS = 15, 20.0

Sampler = Callable[[published.Sizes], published.Pairs]


def rows() -> list[tuple[str, Task, Sampler, bool]]:
    """Name, our task, the published way, and whether that loops over prompts."""
    dense, signs = LinearRegression(DIM), SignVector(DIM)
    few, two_sided = TaskPool(DIM, 1024, 0.5), GaussianMixtureRegression.two_sided(DIM)
    mixture = Mixture((dense, signs), (0.5, 0.5))
    return [
        ("dense", dense, published.dense, False),
        ("sparse", LinearRegression(DIM, sparsity=3), published.sparse, True),
        ("sign vectors", signs, published.signs, False),
        ("low rank", LowRank(10, 1), published.low_rank, False),
        ("two-sided prior", two_sided, partial(published.one_a_call, published.two_sided), True),
        ("  theirs a batch", two_sided, published.two_sided, False),
        ("pool of 1,024", few, partial(published.pool, tasks=few.pool.float()[..., None]), False),
        ("dense or signs", mixture, partial(published.one_a_call, published.mixture), True),
        ("  theirs a batch", mixture, published.mixture, False),
        ("decision tree", DecisionTree(DIM), published.tree, True),
        ("ReLU network", ReLUNetwork(DIM), published.network, False),
        ("monomials of any set", Monomials(DIM, Subsets(20, count=None)), published.monomials, True),
        ("Fourier", Fourier(10), published.fourier, False),
        ("Fourier, N uniform", Fourier(10, law="upto"), partial(published.fourier, mixed=True), False),
        ("Haar", Haar(3), published.haar, True),
        ("conjunction", conjunctions.Conjunction(DIM), published.conjunction, True),
        ("disjunction", conjunctions.Disjunction(DIM), published.disjunction, True),
        ("DNF", normal_forms.DNF(DIM), partial(published.normal_form, outer="dnf"), True),
        ("CNF", normal_forms.CNF(DIM), partial(published.normal_form, outer="cnf"), True),
        ("nearest neighbour", nearest.NearestNeighbour(DIM), published.nearest, True),
        ("parity", parities.Parity(DIM), published.parity, True),
        ("sparse parity", parities.Parity(DIM, sparsity=2), partial(published.parity, bits=2), True),
        ("sparse threshold", thresholds.SparseThreshold(DIM), published.threshold, False),
        ("integer halfspace", thresholds.IntegerHalfspace(DIM), published.halfspace, False),
        ("sparse majority", thresholds.SparseMajority(DIM), published.majority, False),
    ]


def milliseconds(run: Callable[[], object], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        run()
    return 1e3 * (time.process_time() - start) / calls


def medians(runs: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds of processor time a call, in rounds of as many calls as fill `ROUND_MS`."""
    calls = {name: max(1, int(ROUND_MS / max(milliseconds(run, 3), 0.01))) for name, run in runs.items()}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            taken[name].append(milliseconds(run, calls[name]))
    return {name: sorted(each)[ROUNDS // 2] for name, each in taken.items()}


def compare(name: str, task: Task, sampler: Sampler, loops: bool) -> str:
    generator = torch.Generator().manual_seed(0)
    sizes = published.Sizes(BATCH, POINTS, DIM, generator, np.random.default_rng(0))
    prompt, (xs, ys) = task.sample(BATCH, POINTS, generator), sampler(sizes)
    if prompt.xs.shape != xs.shape or prompt.ys.shape != ys.shape:
        raise RuntimeError(f"{name}: ours draws {list(prompt.xs.shape)}, the published way {list(xs.shape)}.")
    runs = {"ours": lambda: task.sample(BATCH, POINTS, generator), "published": lambda: sampler(sizes)}
    taken = medians(runs)
    ratio = taken["published"] / taken["ours"]
    wanted = 10.0 if loops else 1.0
    verdict = "" if ratio * ROOM >= wanted else f"short of {wanted:g}"
    way = "loops" if loops else "batched"
    return f"{name:22s} {taken['ours']:8.2f} {taken['published']:10.2f} {ratio:8.1f}  {way:8s} {verdict}"


def main() -> None:
    torch.set_num_threads(1)
    print(f"{BATCH} prompts, {POINTS} points, {DIM} dimensions; {machine()}")
    print(f"{'class':22s} {'ours, ms':>8s} {'published':>10s} {'ratio':>8s}  {'it':8s}")
    for row in rows():
        print(compare(*row), flush=True)


if __name__ == "__main__":
    main()

"""The engines behind the exact answers to Boolean functions: they agree with each other where two of them apply, see no
future, need no memory beyond a block, and say in one sentence what they cannot answer."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from microtome.lab.bayes import Probabilistic
from microtome.lab.bayes.boolean import (
    AveragingSign,
    CosineNeighbour,
    Dual,
    Elimination,
    Enumeration,
    Literals,
    NearestRoot,
    Null,
    ParitySpan,
    PromptNetwork,
    VersionSpace,
    conjunctions,
    enumeration,
    normal_forms,
    parities,
    thresholds,
)
from microtome.lab.bayes.boolean.finite import Layout
from microtome.lab.tasks.boolean import DNF, BooleanTask, Conjunction, Disjunction, NearestNeighbour, Parity, PromptPool

close = torch.testing.assert_close
seeds = st.integers(0, 2**31).map(lambda seed: torch.Generator().manual_seed(seed))


@st.composite
def laws(draw: st.DrawFn) -> Literals:
    dim = draw(st.integers(1, 6))
    size = draw(st.none() | st.integers(0, dim))
    return Literals(dim, draw(st.sampled_from([0.0, 0.2, 0.5, 1.0])), draw(st.booleans()), size)


@settings(max_examples=40)
@given(law=laws(), force=st.sampled_from([0.0, 0.3, 1.0]), generator=seeds)
def test_the_version_space_counts_what_enumeration_counts(
    law: Literals, force: float, generator: torch.Generator
) -> None:
    task = Conjunction(law.dim, law.relevant, law.monotone, law.size, force)
    prompt = task.sample(20, 12, generator, dtype=torch.float64)
    counted = VersionSpace(law, force).law(prompt.xs, prompt.ys).mean
    close(counted, Enumeration(conjunctions(law, force)).law(prompt.xs, prompt.ys).mean, rtol=1e-10, atol=1e-10)


@settings(max_examples=30)
@given(dim=st.integers(1, 9), generator=seeds)
def test_the_span_knows_what_enumeration_knows(dim: int, generator: torch.Generator) -> None:
    prompt = Parity(dim).sample(20, 14, generator, dtype=torch.float64)
    close(
        ParitySpan(dim).law(prompt.xs, prompt.ys).mean,
        Enumeration(parities(dim)).law(prompt.xs, prompt.ys).mean,
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("task", [Conjunction(5), Disjunction(4), DNF(3), Parity(5, sparsity=2)], ids=str)
def test_little_noise_is_no_noise(task: BooleanTask, generator: torch.Generator) -> None:
    """The engine that weighs tends to the one that counts."""
    prompt = task.sample(30, 12, generator, dtype=torch.float64)
    exact = task.bayes()
    counted = exact.inside if isinstance(exact, Dual) else exact
    sign = -1 if isinstance(exact, Dual) else 1
    functions = counted.functions if isinstance(counted, Enumeration) else conjunctions(counted.literals, counted.force)
    weighed = Enumeration(functions, noise=1e-13).law(sign * prompt.xs, sign * prompt.ys).mean
    close(sign * weighed, exact.law(prompt.xs, prompt.ys).mean, rtol=0, atol=1e-8)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_blocks_change_nothing(noise: float, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    task = DNF(3, clauses=2, noise=noise)
    prompt = task.sample(13, 8, generator, dtype=torch.float64)
    whole = task.bayes().law(prompt.xs, prompt.ys).mean
    for size in (1, 3000, 20_000):
        monkeypatch.setattr(enumeration, "BLOCK_WORDS", size)
        monkeypatch.setattr(enumeration, "BLOCK_WEIGHTS", size)
        assert torch.equal(task.bayes().law(prompt.xs, prompt.ys).mean, whole)


def test_a_million_hypotheses(generator: torch.Generator) -> None:
    """2²⁰ parities and 20 prompts, against linear algebra; `benchmarks/boolean_enumeration.py` runs a thousand."""
    prompt = Parity(20).sample(20, 30, generator, dtype=torch.float64)
    functions = parities(20)
    assert functions.layout.sizes.sum() == 2**20
    close(
        Enumeration(functions).law(prompt.xs, prompt.ys).mean,
        ParitySpan(20).law(prompt.xs, prompt.ys).mean,
        rtol=0,
        atol=1e-9,
    )


def test_three_to_the_twenty_eight_conjunctions_are_counted_exactly(generator: torch.Generator) -> None:
    """A conjunction whose literals all but known ones are ruled out: 28 bits, counted by hand.

    After the positive x = 1…1 and its negative neighbours with bit j flipped, j < r, those r literals are in and the
    others free: P(+) of the neighbour with bit r flipped is the share of w without literal r, in the tilted prior.
    """
    r, n, relevant, force = 5, 28, 0.3, 0.3
    xs = torch.ones(1, r + 2, n, dtype=torch.float64)
    for j in range(r + 1):
        xs[0, j + 1, j] = -1
    ys = torch.tensor([[1.0] + [-1.0] * r + [1.0]], dtype=torch.float64)
    plus = minus = 0.0
    for t in range(n - r + 1):  # literals beyond the r
        p = (relevant / 2) ** (r + t) * (1 - relevant) ** (n - r - t)
        tilt = 1 - force + force * 2 ** (r + t)
        plus += math.comb(n - r - 1, t) * p * tilt * tilt
        minus += (math.comb(n - r, t) - math.comb(n - r - 1, t)) * p * tilt * (1 - force)
    said = VersionSpace(Literals(n, relevant), force).law(xs, ys).mean[0, -1].item()
    assert said == pytest.approx((plus - minus) / (plus + minus), abs=1e-12)


PREDICTORS = {
    "enumeration": (Conjunction(4), Enumeration(conjunctions(Literals(4), 0.3))),
    "weighed": (Conjunction(4, noise=0.1), Conjunction(4, noise=0.1).bayes()),
    "version space": (Conjunction(9), Conjunction(9).bayes()),
    "dual": (Disjunction(5), Disjunction(5).bayes()),
    "normal form": (DNF(3), DNF(3).bayes()),
    "span": (Parity(5), ParitySpan(5)),
    "nearest": (NearestNeighbour(4, start=5), NearestRoot(5)),
    "pool": (pool := PromptPool(Conjunction(3), 40, 12), pool.bayes()),
    "null": (Conjunction(5), Null()),
    "averaging": (Conjunction(5), AveragingSign()),
    "cosine": (Conjunction(5), CosineNeighbour()),
    "elimination": (Conjunction(5), Elimination()),
    "network": (Conjunction(5), PromptNetwork(width=8, steps=5, every=4)),
}
every_predictor = pytest.mark.parametrize(("task", "predictor"), PREDICTORS.values(), ids=PREDICTORS)


@every_predictor
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_entry_i_depends_on_the_pairs_before_it_only(task, predictor, dtype, generator: torch.Generator) -> None:
    """What follows is replaced by another prompt's, itself possible or not read."""
    prompt = task.sample(25, 12, generator, dtype=dtype)
    before = predictor.predict(prompt.xs, prompt.ys)
    assert before.mean.dtype == dtype
    assert before.mean.abs().max() <= 1
    for k in (1, 5, 11):
        ys = prompt.ys.clone()
        ys[:, k - 1] *= -1  # the last label is never read
        again = predictor.predict(prompt.xs[:, :k].clone(), ys[:, :k])
        close(again.mean, before.mean[:, :k], rtol=0, atol=1e-6 if isinstance(predictor, PromptNetwork) else 1e-12)


@every_predictor
def test_one_pair_one_prompt(task, predictor, generator: torch.Generator) -> None:
    prompt = task.sample(1, 1, generator)
    assert predictor.predict(prompt.xs, prompt.ys).mean.shape == (1, 1)


def test_elimination_by_hand_and_its_one_sided_error(generator: torch.Generator) -> None:
    xs = torch.tensor([[[1, 1, -1], [1, -1, -1], [1, -1, 1], [-1, -1, -1], [1, 1, 1]]], dtype=torch.float64)
    ys = torch.tensor([[1.0, 1.0, -1.0, 1.0, 1.0]], dtype=torch.float64)
    # Nothing; then x1 x2 ¬x3 kept, x1 ¬x3 after the second, ¬x3 after the fourth.
    assert Elimination().predict(xs, ys).mean.tolist() == [[-1, -1, -1, -1, -1]]
    xs[0, 4, 2] = -1
    assert Elimination().predict(xs, ys).mean[0, 4] == 1
    prompt = Conjunction(6).sample(500, 30, generator)
    said = Elimination().predict(prompt.xs, prompt.ys).mean
    assert ((said != prompt.ys) & (prompt.ys < 0)).sum() == 0
    assert ((said != prompt.ys) & (prompt.ys > 0)).sum() > 0


def test_first_entries_are_those_of_the_paper(generator: torch.Generator) -> None:
    prompt = Conjunction(6).sample(5, 3, generator)
    assert (AveragingSign().predict(prompt.xs, prompt.ys).mean[:, 0] == -1).all()
    assert (CosineNeighbour().predict(prompt.xs, prompt.ys).mean[:, 0] == 0).all()
    assert (Null().predict(prompt.xs, prompt.ys).mean == -1).all()


def test_a_network_for_each_prompt_learns_sparse_parity(generator: torch.Generator) -> None:
    """Parity (10, 2), which in-context learners do not learn: near chance after 15 examples, right after 120.

    Forty prompts with 15 answers or more each: chance has a standard error of .02.
    """
    prompt = Parity(10, sparsity=2).sample(40, 140, generator)

    def right(points: int, every: int) -> float:
        xs, ys = prompt.xs[:, :points], prompt.ys[:, :points]
        said = PromptNetwork(steps=150, every=every).predict(xs, ys).mean
        assert (said[:, :every] == 0).all()
        return (said.sign() == ys)[:, every:].double().mean().item()

    assert right(30, every=15) < 0.75
    assert right(140, every=120) > 0.9


@settings(max_examples=30)
@given(sizes=st.lists(st.integers(1, 200), min_size=1, max_size=5), seed=st.integers(0, 2**31))
def test_bits_are_packed_by_group(sizes: list[int], seed: int) -> None:
    layout = Layout(np.array(sizes))
    flags = np.random.default_rng(seed).random((3, sum(sizes))) < 0.5
    words = layout.pack(flags)
    edges = np.cumsum([0, *sizes])
    wanted = np.stack([flags[:, a:b].sum(1) for a, b in itertools.pairwise(edges)], axis=1)
    assert (layout.count(words) == wanted).all()
    assert (layout.unpack(words)[:, layout.slots] == flags).all()
    assert layout.unpack(words).sum() == flags.sum()


def impossible(task: BooleanTask) -> tuple[Tensor, Tensor]:
    """The same x with both labels, and a point after them."""
    xs = torch.ones(2, 3, task.dim)
    return xs, torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 1.0]])


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (Conjunction(4), "the 2 pairs before x_2 of prompt 1, with that x, are impossible under every hypothesis"),
        (DNF(3), "the 2 pairs before x_2 of prompt 1, with that x, are impossible"),
        (Disjunction(4), "the 2 pairs before x_2 of prompt 1, with that x, are impossible"),
        (Parity(4), "labels of prompt 1 up to point 1 are those of no parity"),
        (NearestNeighbour(4), "labels of prompt 1 are not those of nearest neighbours"),
        (PromptPool(Conjunction(4), 3, 3), "prompt 0 is not in the pool from point"),
    ],
    ids=str,
)
def test_contradictions_get_a_sentence(task: BooleanTask, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        task.bayes().predict(*impossible(task))


def test_contradictions_are_noise_to_a_noisy_law() -> None:
    task = Conjunction(4, noise=0.1)
    assert task.bayes().predict(*impossible(task)).mean.isfinite().all()


@pytest.mark.usefixtures("untyped")
@every_predictor
def test_bad_prompts_get_a_sentence(task, predictor, generator: torch.Generator) -> None:
    prompt = task.sample(2, 4, generator)
    xs, ys = prompt.xs, prompt.ys
    with pytest.raises(ValueError, match="same batch and points"):
        predictor.predict(xs, ys[:, :3])
    with pytest.raises(ValueError, match="ys must be finite, but prompt 0"):
        predictor.predict(xs, ys * torch.nan)
    with pytest.raises(ValueError, match="at least one prompt"):
        predictor.predict(xs[:0], ys[:0])
    with pytest.raises(TypeError, match="floating-point"):
        predictor.predict(xs.long(), ys)
    if isinstance(predictor, Probabilistic | Elimination):
        with pytest.raises(ValueError, match=r"ys of Boolean prompts must be −1 or \+1, but holds 0\."):
            predictor.predict(xs, ys * 0)
        with pytest.raises(ValueError, match=r"xs of Boolean prompts must be −1 or \+1, but holds 0\.5\."):
            predictor.predict(xs.abs() / 2, ys)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("task", "predictor"),
    [p for name, p in PREDICTORS.items() if name in ("enumeration", "version space", "dual", "span", "pool")],
)
def test_another_dimension_gets_a_sentence(task, predictor, generator: torch.Generator) -> None:
    prompt = task.sample(2, 4, generator)
    with pytest.raises(ValueError, match=f"functions of {task.dim} bits, but xs has {task.dim - 1} dimensions"):
        predictor.predict(prompt.xs[..., 1:], prompt.ys)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Literals(0), "dim must be at least 1, not 0"),
        (lambda: Literals(3, relevant=1.2), "relevant is a probability between 0 and 1, not 1.2"),
        (lambda: Literals(3, size=4), "size must lie between 0 and dim = 3, or be None, not 4"),
        (lambda: conjunctions(Literals(15)), "14,348,907 hypotheses, more than the 8,388,608"),
        (lambda: conjunctions(Literals(3), force=-0.1), "force is a probability"),
        (lambda: VersionSpace(Literals(33)), "at most 64 literals, but 33 dimensions have 66"),
        (lambda: VersionSpace(Literals(3), force=2.0), "force is a probability"),
        (lambda: normal_forms(Literals(3), clauses=0), "at least 1 clause, not 0"),
        (lambda: normal_forms(Literals(6)), "hypotheses, more than the 8,388,608 that are enumerated; take fewer dim"),
        (lambda: normal_forms(Literals(12), clauses=1), "do not fit in memory"),
        (lambda: parities(24), "of all subsets without noise take `ParitySpan`"),
        (lambda: parities(4, size=5), "size must lie between 0 and dim = 4"),
        (lambda: thresholds(np.ones((2**20, 12)), np.zeros(2**20), np.zeros(2**20)), "more than 2,147,483,648 bits"),
        (lambda: Enumeration(parities(3), noise=0.6), "between 0 and ½, not 0.6"),
        (lambda: PromptNetwork(width=0), "width must be at least 1, not 0"),
        (lambda: PromptNetwork(lr=0.0), "lr must be above 0, not 0.0"),
        (lambda: NearestRoot(0), "start must be at least 1"),
        (lambda: NearestRoot(3, noise=-1), "between 0 and ½"),
    ],
)
def test_impossible_laws_get_a_sentence(make, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.usefixtures("untyped")
def test_a_longer_prompt_than_the_pools(generator: torch.Generator) -> None:
    pool = PromptPool(Conjunction(3), 4, 5)
    with pytest.raises(ValueError, match="the prompts of this pool have 5 points, fewer than 6"):
        pool.sample(1, 6, generator)
    with pytest.raises(ValueError, match="the prompts of this pool have 5 points, fewer than 6"):
        pool.bayes().predict(torch.ones(1, 6, 3), torch.ones(1, 6))

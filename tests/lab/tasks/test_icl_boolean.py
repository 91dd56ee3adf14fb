"""The laws of discrete functions learnt in context (Bhattamishra et al. 2024, icl_boolean): what is drawn.

Statistical tests alarm falsely less than once in a million runs each, so less than 1e-4 together: a mean of independent
prompts beyond 5 standard errors, a χ² p-value below 1e-6. 2,000 draws in 20 bins see a shift of a fifth of a standard
deviation; 40,000 draws of a frequency see a shift of 1.3 %.
"""

import math

import pytest
import torch
from torch import Tensor

from microtome.lab.bayes.boolean import CosineNeighbour
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


def frequency_is(p: float, flags: Tensor) -> bool:
    """Whether independent flags have this probability, up to 5 standard errors."""
    return abs(flags.double().mean().item() - p) <= 5 * math.sqrt(p * (1 - p) / flags.numel()) + 1e-12


def test_labels_are_the_function_s_values_up_to_noise(boolean_task: BooleanTask, generator: torch.Generator) -> None:
    prompt = boolean_task.sample(2000, 10, generator)
    assert (prompt.xs.abs() == 1).all()
    assert (prompt.ys.abs() == 1).all()
    flipped = boolean_task.evaluate(prompt.latents, prompt.xs) != prompt.ys
    assert frequency_is(boolean_task.noise, flipped)
    assert not flipped.any() or boolean_task.noise > 0


@pytest.mark.parametrize("task", [Conjunction(6), Disjunction(6), DNF(6), CNF(6), Conjunction(6, noise=0.1)], ids=str)
def test_forced_examples_always_carry_the_forced_label(task: BooleanTask, generator: torch.Generator) -> None:
    prompt = task.sample(3000, 8, generator)
    forced = prompt.latents["forced"]
    label = 1 if isinstance(task, Conjunction | DNF) else -1
    assert (task.evaluate(prompt.latents, prompt.xs)[forced] == label).all()
    assert frequency_is(task.force, forced)


@pytest.mark.parametrize("task", [DNF(6), CNF(6)], ids=str)
def test_one_clause_a_prompt_is_forced(task: BooleanTask, generator: torch.Generator) -> None:
    prompt = task.sample(2000, 8, generator)
    w, chosen, forced = (prompt.latents[name] for name in ("w", "chosen", "forced"))
    assert (chosen.sum(1) == 1).all()
    assert all(frequency_is(1 / 3, chosen[:, c]) for c in range(3))
    clause = w[chosen][:, None] * (1 if isinstance(task, DNF) else -1)
    assert ((clause == 0) | (clause == prompt.xs)).all(-1)[forced].all()


@pytest.mark.parametrize(
    ("task", "law"),
    [
        (Conjunction(4), {0: 0.7, 1: 0.15, -1: 0.15}),
        (Disjunction(4), {0: 0.7, 1: 0.15, -1: 0.15}),
        (Conjunction(4, monotone=True), {0: 0.7, 1: 0.3, -1: 0.0}),
        (DNF(4), {0: 0.8, 1: 0.1, -1: 0.1}),
        (CNF(4), {0: 0.8, 1: 0.1, -1: 0.1}),
        (SparseThreshold(4), {0: 0.7, 1: 0.15, -1: 0.15}),
        (SparseMajority(4), {0: 0.7, 1: 0.3}),
        (Parity(4), {0: 0.5, 1: 0.5}),
        (IntegerHalfspace(4), dict.fromkeys(range(-3, 4), 1 / 7)),
    ],
    ids=str,
)
def test_weights_have_the_published_law(task: BooleanTask, law: dict[int, float], generator: torch.Generator) -> None:
    w = task.sample(10_000, 1, generator).latents["w"]
    assert all(frequency_is(p, w == value) for value, p in law.items())


def test_offsets_of_sparse_thresholds(generator: torch.Generator) -> None:
    kappa = SparseThreshold(2).sample(20_000, 1, generator).latents["kappa"]
    assert all(frequency_is(1 / 6, kappa == k + 0.5) for k in range(-3, 3))


def test_no_weighted_sum_is_zero(generator: torch.Generator) -> None:
    for task in (SparseThreshold(7), IntegerHalfspace(), SparseMajority()):
        assert (task.sample(500, 20, generator).ys != 0).all()


def test_inputs_that_are_not_forced_are_uniform(generator: torch.Generator) -> None:
    for task in (Parity(3), SparseMajority(3), NearestNeighbour(3), Conjunction(3, force=0.0)):
        xs = task.sample(20_000, 1, generator).xs[:, 0]
        codes = ((xs > 0) * torch.tensor([1, 2, 4])).sum(-1)
        counts = torch.bincount(codes, minlength=8)
        assert all(frequency_is(1 / 8, codes == code) for code in range(8)), counts


def test_p_of_plus_is_that_of_the_paper(generator: torch.Generator) -> None:
    """.3 + .7·.85²⁸ = .3074 for conjunctions of 28 bits; one label a prompt, so that they are independent."""
    p = 0.3 + 0.7 * 0.85**28
    assert round(p, 4) == 0.3074
    assert frequency_is(p, Conjunction().sample(40_000, 1, generator).ys > 0)
    assert frequency_is(p, Disjunction().sample(40_000, 1, generator).ys < 0)


def test_a_disjunction_is_the_complement_of_the_opposite_conjunction(generator: torch.Generator) -> None:
    task = Disjunction(9)
    prompt = task.sample(500, 20, generator)
    opposite = {"w": -prompt.latents["w"]}
    assert torch.equal(prompt.ys, -Conjunction(9).evaluate(opposite, prompt.xs))
    clauses = CNF(9).sample(500, 20, generator)
    assert torch.equal(clauses.ys, -DNF(9).evaluate({"w": -clauses.latents["w"]}, clauses.xs))


def test_empty_clauses(generator: torch.Generator) -> None:
    assert (Conjunction(5, relevant=0.0).sample(3, 5, generator).ys == 1).all()
    assert (Disjunction(5, relevant=0.0).sample(3, 5, generator).ys == -1).all()
    assert (DNF(5, relevant=0.0).sample(3, 5, generator).ys == 1).all()
    assert (CNF(5, relevant=0.0).sample(3, 5, generator).ys == -1).all()


def test_sparse_classes_have_their_size(generator: torch.Generator) -> None:
    assert (Disjunction(50, monotone=True, sparsity=4).sample(100, 1, generator).latents["w"].sum(1) == 4).all()
    assert (Parity(10, sparsity=2).sample(100, 1, generator).latents["w"].sum(1) == 2).all()


def test_nearest_neighbour_labels_are_cosine_predictions(generator: torch.Generator) -> None:
    prompt = NearestNeighbour().sample(300, 60, generator)
    said = CosineNeighbour().predict(prompt.xs, prompt.ys).mean
    assert torch.equal(said[:, 20:], prompt.ys[:, 20:])
    assert frequency_is(0.5, prompt.ys[:, :20] > 0)
    few = NearestNeighbour(3).sample(300, 20, generator)
    again = (few.xs[:, :, None] == few.xs[:, None]).all(-1)
    assert (few.ys[:, :, None] == few.ys[:, None])[again].all()


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Conjunction(0), "dim must be at least 1, not 0"),
        (lambda: Conjunction(4, relevant=1.5), "relevant is a probability between 0 and 1, not 1.5"),
        (lambda: Conjunction(4, force=-0.1), "force is a probability between 0 and 1, not -0.1"),
        (lambda: Conjunction(4, taught=2.0), "taught is a probability"),
        (lambda: Conjunction(4, sparsity=5), "size must lie between 0 and dim = 4"),
        (
            lambda: Conjunction(4, noise=0.6),
            "noise is the probability that a label is flipped, between 0 and ½, not 0.6",
        ),
        (lambda: Disjunction(4, sparsity=-1), "size must lie between 0 and dim = 4"),
        (lambda: Disjunction(4, force=math.nan), "force is a probability"),
        (lambda: DNF(4, clauses=0), "clauses must be at least 1, not 0"),
        (lambda: CNF(4, clauses=0), "clauses must be at least 1, not 0"),
        (lambda: SparseThreshold(4, bound=0), "bound must be at least 1, not 0"),
        (lambda: IntegerHalfspace(4, bound=0), "bound must be at least 1, not 0"),
        (lambda: SparseMajority(4, relevant=-0.5), "relevant is a probability"),
        (lambda: Parity(4, sparsity=5), "size must lie between 0 and dim = 4"),
        (lambda: NearestNeighbour(4, start=0), "start must be at least 1, not 0"),
        (lambda: PromptPool(Conjunction(4), 0, 5), "size must be at least 1, not 0"),
        (lambda: Conjunction(4, taught=0.5).bayes(), "a teaching sequence gives its function away"),
        (lambda: DNF(4, taught=0.5).bayes(), "a teaching sequence gives its function away"),
        (lambda: Conjunction(28, noise=0.1).bayes(), "more than the 8,388,608 that are enumerated"),
        (lambda: DNF().bayes(), "normal forms of 3 clauses over 28 bits are .* hypotheses, more than"),
        (lambda: CNF().bayes(), "take fewer dimensions or clauses"),
        (lambda: SparseThreshold().bayes(), "sparse thresholds over 28 bits are"),
        (lambda: IntegerHalfspace().bayes(), "integer halfspaces over 20 bits are"),
        (lambda: SparseMajority().bayes(), "majorities over 28 bits are"),
    ],
)
def test_impossible_laws_get_a_sentence(make, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()

"""Next-token probabilities of unknown Markov chains, against Bayes' rule by quadrature and against their own law."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.lab.bayes.law import uniformity
from microtome.lab.bayes.markov import DirichletMarkov, contexts
from microtome.lab.tasks.markov import MarkovChain


def by_quadrature(tokens: list[int], order: int, alpha: int) -> list[float]:
    """p(next = 1 | tokens) of a two-state chain after each position, by Bayes' rule on a grid over all matrices.

    Gauss-Legendre nodes integrate polynomials exactly; with an integer α prior times likelihood is one.
    """
    nodes, weights = np.polynomial.legendre.leggauss(8)
    nodes, weights = (nodes + 1) / 2, weights / 2
    rows = 2**order
    theta = np.stack(np.meshgrid(*[nodes] * rows, indexing="ij"))  # P(1 | context)
    density = np.ones(theta.shape[1:])
    for axis in range(rows):
        shape = [-1 if at == axis else 1 for at in range(rows)]
        density = density * weights.reshape(shape) * (theta[axis] * (1 - theta[axis])) ** (alpha - 1)
    found = []
    for end in range(len(tokens)):
        if end + 1 < order:
            found.append(0.5)
            continue
        likelihood = density.copy()
        for start in range(end + 1 - order):
            context = int("".join(map(str, tokens[start : start + order])), 2)
            one = theta[context]
            likelihood *= one if tokens[start + order] else 1 - one
        last = theta[int("".join(map(str, tokens[end + 1 - order : end + 1])), 2)]
        found.append(float((likelihood * last).sum() / likelihood.sum()))
    return found


@pytest.mark.parametrize(("order", "alpha"), [(1, 1), (1, 3), (2, 1), (2, 2)])
def test_the_answer_is_bayes_rule(order: int, alpha: int) -> None:
    """All 32 sequences of five tokens."""
    sequences = [list(each) for each in itertools.product((0, 1), repeat=5)]
    said = DirichletMarkov(2, order, float(alpha)).predict(torch.tensor(sequences))
    wanted = torch.tensor([by_quadrature(each, order, alpha) for each in sequences], dtype=torch.float64)
    torch.testing.assert_close(said[..., 1], wanted, atol=1e-12, rtol=0)
    torch.testing.assert_close(said.sum(-1), torch.ones(32, 5, dtype=torch.float64))


def test_counts_written_out() -> None:
    """0 1 0 1 0: after 0 came 1 twice, after 1 came 0; with S = 3 and α = ½."""
    said = DirichletMarkov(3, 1, 0.5).predict(torch.tensor([[0, 1, 0, 1, 0]]))[0]
    wanted = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 3, 1], [3, 1, 1], [1, 5, 1]], dtype=torch.float64)
    torch.testing.assert_close(said, wanted / wanted.sum(-1, keepdim=True))


@settings(max_examples=30)
@given(st.integers(2, 4), st.integers(1, 3), st.integers(1, 9), st.integers(0, 2**31))
def test_probabilities_come_from_tokens_so_far(states: int, order: int, length: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(states, (3, length), generator=generator)
    exact = DirichletMarkov(states, order, 0.7)
    whole = exact.predict(tokens)
    assert whole.shape == (3, length, states)
    torch.testing.assert_close(whole.sum(-1), torch.ones(3, length, dtype=torch.float64))
    for end in range(1, length + 1):
        torch.testing.assert_close(exact.predict(tokens[:, :end]), whole[:, :end])


def test_names_of_states_do_not_matter(generator: torch.Generator) -> None:
    tokens = torch.randint(4, (5, 12), generator=generator)
    renamed = torch.tensor([2, 0, 3, 1])
    exact = DirichletMarkov(4, 2)
    torch.testing.assert_close(exact.predict(renamed[tokens])[..., renamed], exact.predict(tokens))


def test_contexts_are_numbered_in_base_states() -> None:
    assert contexts(torch.tensor([[1, 0, 2]]), 3, 2).tolist() == [[3, 2]]
    assert contexts(torch.tensor([[1, 0, 2]]), 3, 1).tolist() == [[1, 0, 2]]


def p_value(probabilities: torch.Tensor, targets: torch.Tensor, generator: torch.Generator) -> float:
    """Of the χ² test that the randomised integral transform of the targets is uniform; [draws state] and [draws]."""
    upto = probabilities.cumsum(-1).gather(1, targets[:, None])[:, 0]
    mass = probabilities.gather(1, targets[:, None])[:, 0]
    return uniformity(upto - torch.rand(len(mass), generator=generator, dtype=torch.float64) * mass)


@pytest.mark.parametrize(("order", "alpha", "pos"), [(1, 1.0, 1), (1, 0.3, 12), (2, 0.5, 15)])
def test_the_law_is_calibrated(order: int, alpha: float, pos: int, generator: torch.Generator) -> None:
    """2,000 independent chains at one position; Pearson's χ² refuses at 1e-6."""
    task = MarkovChain(3, 16, order, alpha)
    drawn = task.sample(2000, generator)
    assert p_value(task.bayes().predict(drawn.tokens)[:, pos], drawn.targets[:, pos], generator) > 1e-6


def test_a_law_that_is_too_sure_is_not_calibrated(generator: torch.Generator) -> None:
    task = MarkovChain(3, 16, alpha=1.0)
    drawn = task.sample(2000, generator)
    sure = task.bayes().predict(drawn.tokens)[:, 12] ** 4
    assert p_value(sure / sure.sum(-1, keepdim=True), drawn.targets[:, 12], generator) < 1e-6


def test_no_other_law_scores_better_on_its_own_chains(generator: torch.Generator) -> None:
    """Mean log score of 2,000 chains; the gap to each rival is at least five of its standard errors (p < 3e-7)."""
    task = MarkovChain(3, 24, order=2, alpha=0.4)
    drawn = task.sample(2000, generator)

    def scores(probabilities: torch.Tensor) -> torch.Tensor:
        per_position = probabilities.gather(-1, drawn.targets[..., None])[..., 0].log()
        return (per_position * drawn.weights).sum(1) / drawn.weights.sum(1)

    own = scores(task.bayes().predict(drawn.tokens))
    rivals = {
        "too flat": DirichletMarkov(3, 2, 1.5).predict(drawn.tokens),
        "too sharp": DirichletMarkov(3, 2, 0.1).predict(drawn.tokens),
        "too short a memory": DirichletMarkov(3, 1, 0.4).predict(drawn.tokens),
        "too long a memory": DirichletMarkov(3, 3, 0.4).predict(drawn.tokens),
        "uniform": torch.full((2000, 24, 3), 1 / 3, dtype=torch.float64),
    }
    for name, probabilities in rivals.items():
        gap = own - scores(probabilities)
        assert gap.mean() > 5 * gap.std() / math.sqrt(len(gap)), name


def test_long_sequences_are_computed_in_blocks(generator: torch.Generator) -> None:
    """300 tokens make 90,000 comparisons a sequence, so that 11 sequences are a block."""
    tokens = torch.randint(3, (25, 300), generator=generator)
    whole = DirichletMarkov(3).predict(tokens)
    torch.testing.assert_close(whole[12:14], DirichletMarkov(3).predict(tokens[12:14]))


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: DirichletMarkov(1), "states must be at least 2, not 1"),
        (lambda: DirichletMarkov(2, 0), "order must be at least 1, not 0"),
        (lambda: DirichletMarkov(2, 1, 0.0), "alpha must be finite and above 0, not 0.0"),
        (lambda: DirichletMarkov(2, 1, math.nan), "alpha must be finite and above 0, not nan"),
        (lambda: DirichletMarkov(2).predict(torch.tensor([[0, 2]])), "tokens must lie between 0 and 1"),
        (lambda: DirichletMarkov(2).predict(torch.tensor([[0, -1]])), "tokens must lie between 0 and 1"),
        (lambda: DirichletMarkov(2).predict(torch.zeros(0, 3).long()), r"at least one of each, not \[0, 3\]"),
        (lambda: DirichletMarkov(2).predict(torch.tensor([0, 1])), r"tokens must be \[batch pos\]"),
    ],
)
def test_bad_input_gets_a_sentence(make, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()

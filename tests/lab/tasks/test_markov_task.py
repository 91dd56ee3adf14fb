"""Markov chains and induction as token tasks: the law of the tokens, and what is asked where."""

import pytest
import torch
from scipy.stats import chi2

from microtome.lab.tasks.markov import Induction, MarkovChain, last_said
from microtome.lab.tasks.protocol import TokenTask

TASKS = {
    "chain": MarkovChain(4, 12),
    "second order": MarkovChain(3, 9, order=2, alpha=0.3),
    "shortest chain": MarkovChain(2, 2),
    "third order, shortest": MarkovChain(2, 4, order=3),
    "nearly deterministic": MarkovChain(4, 12, alpha=1e-4),
    "induction": Induction(5, 12),
    "induction on one token": Induction(1, 2),
}
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


@every_task
@pytest.mark.parametrize("batch", [1, 6])
def test_shapes_ids_and_weights(task: TokenTask, batch: int, generator: torch.Generator) -> None:
    drawn = task.sample(batch, generator)
    for tensor in (drawn.tokens, drawn.targets, drawn.weights):
        assert tensor.shape == (batch, task.length)
    for ids in (drawn.tokens, drawn.targets):
        assert ids.min() >= 0
        assert ids.max() < task.d_vocab
    assert (drawn.weights[:, 0] == 0).all()
    assert (drawn.weights.sum(1) > 0).all(), "every sequence asks something"


@every_task
def test_generator_decides_everything(task: TokenTask) -> None:
    first, again, other = (task.sample(40, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.tokens, again.tokens)
    assert torch.equal(first.targets, again.targets)
    if task.d_vocab > 1:
        assert not torch.equal(first.tokens, other.tokens)


def test_a_chain_s_target_is_its_next_token(generator: torch.Generator) -> None:
    task = MarkovChain(3, 9, order=2)
    drawn = task.sample(50, generator)
    assert torch.equal(drawn.targets[:, :-1], drawn.tokens[:, 1:])
    assert drawn.weights.tolist() == [[0.0, 0.0] + [1.0] * 7] * 50


@pytest.mark.parametrize("order", [1, 2])
def test_chains_follow_their_matrix(order: int, generator: torch.Generator) -> None:
    """4,000 walks of one matrix: Pearson's χ² of the last token in each context, refused at 1e-6 (4e-6 in all)."""
    task = MarkovChain(2, 4, order)
    transitions = task.transitions(1, generator)
    drawn = task.walk(transitions.expand(4000, -1, -1), generator)
    first = drawn.tokens[:, -1] if order == 1 else 2 * drawn.tokens[:, -2] + drawn.tokens[:, -1]
    for context in range(2**order):
        last = drawn.targets[first == context, -1]
        expected = transitions[0, context] * len(last)
        assert expected.min() > 5, "the seed gives every cell enough"
        counts = last.bincount(minlength=2)
        assert ((counts - expected) ** 2 / expected).sum() < chi2.ppf(1 - 1e-6, 1)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_matrices_have_the_moments_of_their_prior(alpha: float, generator: torch.Generator) -> None:
    """θ ~ Dirichlet(α, α, α): mean 1/3, variance 2/(9(3α + 1)). 12,000 rows; five standard errors (6e-7 each)."""
    theta = MarkovChain(3, 4, alpha=alpha).transitions(4000, generator)
    torch.testing.assert_close(theta.sum(-1), torch.ones(4000, 3, dtype=torch.float64))
    entries = theta[..., 0].flatten()
    variance = 2 / (9 * (3 * alpha + 1))
    assert abs(entries.mean() - 1 / 3) < 5 * (variance / len(entries)) ** 0.5
    squares = (entries - 1 / 3).square()
    assert abs(squares.mean() - variance) < 5 * squares.std() / len(entries) ** 0.5


def test_every_chain_has_its_own_matrix(generator: torch.Generator) -> None:
    theta = MarkovChain(3, 4).transitions(20, generator)
    assert len({tuple(row) for row in theta.flatten(0, 1).tolist()}) == 60


def test_starts_are_uniform(generator: torch.Generator) -> None:
    """χ² of the nine pairs of first tokens of 4,500 chains, refused at 1e-6."""
    drawn = MarkovChain(3, 4, order=2, alpha=0.1).sample(4500, generator)
    counts = (3 * drawn.tokens[:, 0] + drawn.tokens[:, 1]).bincount(minlength=9)
    assert ((counts - 500) ** 2 / 500).sum() < chi2.ppf(1 - 1e-6, 8)


def test_induction_asks_what_followed_last_time(generator: torch.Generator) -> None:
    drawn = Induction(4, 15).sample(30, generator)
    for tokens, targets, weights in zip(
        drawn.tokens.tolist(), drawn.targets.tolist(), drawn.weights.tolist(), strict=True
    ):
        for pos, token in enumerate(tokens):
            before = [at for at in range(pos) if tokens[at] == token]
            assert weights[pos] == bool(before)
            if before:
                assert targets[pos] == tokens[before[-1] + 1]


def test_last_said_by_hand() -> None:
    assert last_said(torch.tensor([[3, 1, 3, 3, 1]])).tolist() == [[-1, -1, 0, 2, 1]]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: MarkovChain(1, 4), "states must be at least 2, not 1"),
        (lambda: MarkovChain(2, 4, order=0), "order must be at least 1, not 0"),
        (lambda: MarkovChain(2, 4, alpha=-1.0), "alpha must be finite and above 0, not -1.0"),
        (lambda: MarkovChain(2, 2, order=2), "length must be above order = 2, .* not 2"),
        (lambda: Induction(0, 4), "vocab must be at least 1, not 0"),
        (lambda: Induction(4, 4), "length must be above vocab = 4, .* not 4"),
    ],
)
def test_impossible_tasks_get_a_sentence(make, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.usefixtures("untyped")
@every_task
def test_bad_calls_get_a_sentence(task: TokenTask, generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="batch must be at least 1, not 0"):
        task.sample(0, generator)
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator, not NoneType"):
        task.sample(2, None)

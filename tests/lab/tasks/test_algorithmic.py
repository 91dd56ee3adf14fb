"""The token tasks: what is asked of every position, and the law of the tokens."""

import pytest
import torch
from scipy.stats import chi2

from microtome.lab.tasks import EvenTokenPrediction, PositionIdentification, RepeatedBlock, TokenTask

TASKS = {
    "positions": PositionIdentification(vocab=5, length=8),
    "more positions than tokens": PositionIdentification(vocab=1, length=1),
    "even tokens": EvenTokenPrediction(vocab=5, length=8),
    "even tokens, odd length": EvenTokenPrediction(vocab=5, length=7),
    "repeated block": RepeatedBlock(vocab=5, block=4, repeats=3),
    "one token repeated": RepeatedBlock(vocab=5, block=1, repeats=2),
}
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


@every_task
@pytest.mark.parametrize("batch", [1, 6])
def test_shapes_and_ids(task: TokenTask, batch: int, generator: torch.Generator) -> None:
    drawn = task.sample(batch, generator)
    for tensor in (drawn.tokens, drawn.targets, drawn.weights):
        assert tensor.shape == (batch, task.length)
    for ids in (drawn.tokens, drawn.targets):
        assert ids.min() >= 0
        assert ids.max() < task.d_vocab
    assert drawn.weights.sum() > 0


@every_task
def test_generator_decides_everything(task: TokenTask) -> None:
    first, again, other = (task.sample(40, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.tokens, again.tokens)
    assert torch.equal(first.targets, again.targets)
    if task.d_vocab > 1:
        assert not torch.equal(first.tokens, other.tokens)


@pytest.mark.parametrize("name", ["positions", "even tokens", "repeated block"])
def test_tokens_are_uniform(name: str, generator: torch.Generator) -> None:
    """Pearson's χ² over the five ids at each of the first four positions, refused at 1e-6: below 2e-5 in all."""
    tokens = TASKS[name].sample(2000, generator).tokens
    for position in range(4):
        counts = tokens[:, position].bincount(minlength=5)
        assert ((counts - 400) ** 2 / 400).sum() < chi2.ppf(1 - 1e-6, 4)


def test_target_is_the_position(generator: torch.Generator) -> None:
    drawn = TASKS["positions"].sample(3, generator)
    assert drawn.targets.tolist() == [list(range(8))] * 3
    assert (drawn.weights == 1).all()


@pytest.mark.parametrize("length", [2, 7, 8])
def test_first_half_of_targets_are_the_even_tokens(length: int, generator: torch.Generator) -> None:
    task = EvenTokenPrediction(vocab=50, length=length)
    drawn = task.sample(3, generator)
    for tokens, targets in zip(drawn.tokens.tolist(), drawn.targets.tolist(), strict=True):
        for i in range(1, length + 1):  # the paper's places
            assert targets[i - 1] == (tokens[2 * i - 1] if i <= length / 2 else task.eos)
    assert (drawn.tokens != task.eos).all()


def test_repeated_block_asks_for_what_has_been_said(generator: torch.Generator) -> None:
    task = RepeatedBlock(vocab=50, block=4, repeats=3)
    drawn = task.sample(3, generator)
    for tokens, targets in zip(drawn.tokens.tolist(), drawn.targets.tolist(), strict=True):
        assert tokens == tokens[:4] * 3
        assert targets == [*tokens[1:], tokens[0]]
        for pos in range(4, 12):  # an induction head's answer: what followed when this token was last said
            assert targets[pos] == tokens[pos - 4 + 1]
    assert drawn.weights.tolist() == [[0.0] * 4 + [1.0] * 8] * 3


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: PositionIdentification(0, 8), "vocab must be at least 1, not 0"),
        (lambda: PositionIdentification(5, 0), "length must be at least 1, not 0"),
        (lambda: EvenTokenPrediction(5, 1), "length must be at least 2, .* not 1"),
        (lambda: RepeatedBlock(5, 0, 2), "block must be at least 1, not 0"),
        (lambda: RepeatedBlock(5, 4, 1), "repeats must be at least 2, .* not 1"),
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

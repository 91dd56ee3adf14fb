"""Selective copying: what is said, where it stands, and what is asked."""

import pytest
import torch
from scipy.stats import chi2

from microtome.lab.tasks.selective_copying import SelectiveCopying


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize(("copies", "span"), [(1, 1), (3, 3), (3, 20)])
def test_what_is_asked_is_what_was_said_in_its_order(fixed, copies, span, generator):
    task = SelectiveCopying(5, copies, span, fixed)
    drawn = task.sample(6, generator)
    assert drawn.tokens.shape == drawn.targets.shape == drawn.weights.shape == (6, task.length)
    assert task.length == span + copies
    for tokens, targets, weights in zip(drawn.tokens, drawn.targets, drawn.weights, strict=True):
        said = tokens[:span][tokens[:span] != task.noise]
        assert torch.equal(targets[span:], said)
        assert (said < 5).all()
        assert (tokens[span:] == task.marker).all()
        assert weights.tolist() == [0] * span + [1] * copies
    assert drawn.tokens.max() < task.d_vocab == 7


def test_fixed_places_are_fixed_and_spread(generator):
    tokens = SelectiveCopying(5, 4, 16, fixed=True).sample(9, generator).tokens[:, :16]
    assert ((tokens != 5).nonzero()[:, 1].reshape(9, 4) == torch.tensor([0, 4, 8, 12])).all()


def test_places_and_symbols_are_uniform(generator):
    """Pearson's χ² over places (dependent, so with less spread than χ²) and symbols, refused at 1e-6 each."""
    task = SelectiveCopying(4, 2, 10)
    tokens = task.sample(4000, generator).tokens[:, :10]
    places = (tokens != task.noise).sum(0)
    assert ((places - 800) ** 2 / 800).sum() < chi2.ppf(1 - 1e-6, 9)
    symbols = tokens[tokens != task.noise].bincount(minlength=4)
    assert ((symbols - 2000) ** 2 / 2000).sum() < chi2.ppf(1 - 1e-6, 3)


def test_the_generator_decides_everything():
    task = SelectiveCopying(5, 3, 20)
    first, again, other = (task.sample(20, torch.Generator().manual_seed(seed)).tokens for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_cannot_be_gets_a_sentence(generator):
    with pytest.raises(ValueError, match="span must be at least copies = 8, not 7"):
        SelectiveCopying(16, 8, 7)
    with pytest.raises(ValueError, match="copies must be at least 1, not 0"):
        SelectiveCopying(16, 0)
    with pytest.raises(ValueError, match="batch must be at least 1, not 0"):
        SelectiveCopying().sample(0, generator)

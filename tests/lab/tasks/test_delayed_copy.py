"""Delayed copy: targets are the stream's own tokens, inside the window where it is long enough."""

import pytest
import torch

from microtome.lab.tasks.delayed_copy import DelayedCopy


def test_targets_are_the_tokens_of_delay_positions_before(generator):
    task = DelayedCopy(vocab=7, delay=5, length=12)
    batch = task.sample(40, generator)
    assert batch.tokens.shape == batch.targets.shape == (40, 12)
    assert torch.equal(batch.targets[:, 5:], batch.tokens[:, :-5])
    assert batch.weights[:, :6].sum() == 0
    assert (batch.weights[:, 6:] == 1).all()
    assert task.d_vocab == 7


def test_before_the_window_the_stream_is_independent_of_it(generator):
    """Of 24,000 guesses by any token of the window a fifth is right, 5 standard deviations either way: false alarms
    below 1e-4 over the 6 tokens."""
    batch = DelayedCopy(vocab=5, delay=6, length=6).sample(8000, generator)
    for place in range(6):
        hits = (batch.tokens[:, place, None] == batch.targets[:, 3:]).float().mean().item()
        assert abs(hits - 0.2) < 5 * (0.2 * 0.8 / 24_000) ** 0.5


def test_the_same_generator_gives_the_same_batch():
    task = DelayedCopy(vocab=7, delay=5, length=12)
    a, b = (task.sample(3, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(a.tokens, b.tokens)
    assert torch.equal(a.targets, b.targets)


def test_sizes_out_of_range_are_refused(generator):
    with pytest.raises(ValueError, match="length must be at least 2"):
        DelayedCopy(vocab=7, delay=5, length=1)
    with pytest.raises(ValueError, match="delay"):
        DelayedCopy(vocab=7, delay=0, length=4)

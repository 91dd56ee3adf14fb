"""The entropy tracker reads every mixer that the registry lists, and changes no bit of its output."""

import pytest
import torch

from microtome.lab import zoo
from microtome.lab.zoo import registry
from microtome.probes.entropy import EntropyTracker


@pytest.mark.parametrize("mixer", zoo.names("mixers"))
def test_every_mixer_is_tracked(mixer, generator):
    causal = not registry.load("mixers", mixer).Part.bidirectional_only
    model = zoo.sequence(
        d_vocab=7, mixer=mixer, causal=causal, position="none", d_model=16, n_heads=2, n_layers=2, n_ctx=24
    )
    tokens = torch.randint(7, (3, 20), generator=generator)
    plain = model(tokens)
    with EntropyTracker(model) as tracker:
        assert torch.equal(model(tokens), plain)
    (check,) = tracker.checks
    assert check.entropy.shape[0] == check.score_norm.shape[0] == 2
    assert (check.entropy >= 0).all()
    assert (check.entropy <= torch.tensor(20.0).log() + 1e-4).all()
    assert tracker.figure().axes

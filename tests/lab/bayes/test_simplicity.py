"""The frequencies of what a predictor says."""

import math

import pytest
import torch

from microtome.lab.bayes import Prediction
from microtome.lab.bayes.features import BayesFeatures
from microtome.lab.bayes.simplicity import frequency_content

XS = torch.zeros(2, 3, 1, dtype=torch.float64)
YS = torch.zeros(2, 3, dtype=torch.float64)


class Fixed:
    """Says one function of x whatever the context."""

    name = "fixed"

    def __init__(self, function):
        self.function = function

    def predict(self, xs, ys):
        return Prediction(self.function(xs[..., 0]))


@pytest.mark.parametrize("wave", [torch.cos, torch.sin], ids=["cosine", "sine"])
@pytest.mark.parametrize("n", [1, 4, 10, 19])
def test_a_pure_harmonic_has_one_frequency(n, wave):
    content = frequency_content(Fixed(lambda x: 3 * wave(n * math.pi * x / 5)), XS, YS)
    assert content.shape == (2, 21)
    torch.testing.assert_close(content, torch.eye(21, dtype=torch.float64)[n].expand(2, -1))


def test_shares_are_those_of_the_squared_coefficients():
    """1 + 2 cos 3 + (3 sin 3 + 4 cos 5): 1, 4 + 9, 16 of 30; and cos 20 at the end of the scale."""
    unit = math.pi / 5
    said = Fixed(lambda x: 1 + 2 * (3 * unit * x).cos() + 3 * (3 * unit * x).sin() + 4 * (5 * unit * x).cos())
    content = frequency_content(said, XS, YS)[0]
    torch.testing.assert_close(content[[0, 3, 5]] * 30, torch.tensor([1.0, 13.0, 16.0]).double())
    end = frequency_content(Fixed(lambda x: 1 + 2 * (20 * unit * x).cos()), XS, YS)[0]
    torch.testing.assert_close(end[[0, 20]] * 5, torch.tensor([1.0, 4.0]).double())


def test_the_exact_answer_finds_the_frequencies_of_the_function(generator):
    def features(xs):
        phase = xs * (math.pi / 5) * torch.arange(1, 5, dtype=xs.dtype)
        return torch.cat([torch.ones_like(xs), phase.cos(), phase.sin()], dim=-1)

    xs = 10 * torch.rand(3, 12, 1, generator=generator, dtype=torch.float64) - 5
    ys = (2 * math.pi / 5 * xs[..., 0]).cos()
    content = frequency_content(BayesFeatures(features), xs, ys)
    torch.testing.assert_close(content[:, 2], torch.ones(3, dtype=torch.float64), atol=1e-6, rtol=0)
    early = frequency_content(BayesFeatures(features), xs[:, :2], ys[:, :2])
    assert early[:, 2].max() < 0.99, "two pairs leave the frequency open"


def test_single_precision_is_kept():
    content = frequency_content(Fixed(lambda x: (math.pi * x / 5).cos()), XS.float(), YS.float())
    assert content.dtype == torch.float32


@pytest.mark.usefixtures("untyped")
def test_bad_input_gets_a_sentence():
    said = Fixed(lambda x: x)
    with pytest.raises(ValueError, match="one-dimensional x, not of 2"):
        frequency_content(said, torch.zeros(1, 2, 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="half_period"):
        frequency_content(said, XS, YS, half_period=0.0)
    with pytest.raises(ValueError, match="queries must be even"):
        frequency_content(said, XS, YS, queries=41)
    with pytest.raises(ValueError, match="zero everywhere"):
        frequency_content(Fixed(torch.zeros_like), XS, YS)

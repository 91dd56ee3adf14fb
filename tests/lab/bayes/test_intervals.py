"""Intervals: quantiles of known laws, and coverage on prompts of the training law."""

import pytest
import torch
from scipy.stats import binom
from torch.distributions import Categorical, MixtureSameFamily, Normal

from microtome.lab.bayes import BayesLinear, Ridge, Signs
from microtome.lab.bayes.intervals import central, half_widths
from microtome.lab.tasks import LinearRegression


def test_normal_quantiles() -> None:
    low, high = central(Normal(torch.tensor([[1.0]]).double(), torch.tensor([[2.0]]).double()), 0.95)
    assert low.item() == pytest.approx(1 - 2 * 1.959964, abs=1e-5)
    assert high.item() == pytest.approx(1 + 2 * 1.959964, abs=1e-5)


def test_mixture_quantiles_leave_the_tails_asked_for(generator: torch.Generator) -> None:
    weight = torch.rand(3, 4, 5, generator=generator, dtype=torch.float64)
    parts = Normal(3 * torch.randn(3, 4, 5, generator=generator, dtype=torch.float64), 0.1 + weight.flip(0))
    law = MixtureSameFamily(Categorical(weight), parts)
    low, high = central(law, 0.8)
    torch.testing.assert_close(law.cdf(low), torch.full((3, 4), 0.1, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(law.cdf(high), torch.full((3, 4), 0.9, dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.parametrize("predictor", [BayesLinear(0.5), Ridge(10.0)])
def test_half_widths_cover_new_prompts(predictor, generator: torch.Generator) -> None:
    """Coverage of 4,000 new prompts at one context length; outside the bounds less than once in a million times.

    The width is itself random: given 4,000 prompts its coverage is Beta-distributed with standard deviation 0.0047,
    which twice the binomial's own 0.0047 in the bounds allows for.
    """
    task = LinearRegression(3, noise_std=0.5)
    own, new = (task.sample(4000, 6, generator) for _ in range(2))
    width = half_widths(predictor, own.xs, own.ys, 0.9)
    inside = ((predictor.predict(new.xs, new.ys).mean - new.ys).abs() <= width).float().mean(0)
    low, high = (binom.ppf(p, 2000, 0.9) / 2000 for p in (1e-6, 1 - 1e-6))
    assert (inside >= low).all()
    assert (inside <= high).all()


@pytest.mark.usefixtures("untyped")
def test_bad_calls_get_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"level must lie between 0 and 1, not 1\.5"):
        central(Normal(0.0, 1.0), 1.5)
    with pytest.raises(TypeError, match="not of Signs"):
        central(Signs(torch.zeros(1, 1)), 0.5)
    xs, ys = torch.zeros(5, 2, 1), torch.zeros(5, 2)
    with pytest.raises(ValueError, match=r"level 0\.9 needs at least 9 prompts, not 5"):
        half_widths(Ridge(1.0), xs, ys, 0.9)

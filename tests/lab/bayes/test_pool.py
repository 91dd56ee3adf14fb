"""dMMSE against Bayes' rule task by task, and against ridge where the pool is large.

Calibration is refused below p = 1e-6 only (2,000 independent prompts at one position); of log scores the paired gap is
held against 5 standard errors, which chance exceeds with probability below 1e-6.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from microtome.lab.bayes import BayesLinear, LinearPredictor, Probabilistic, integral_transform, uniformity
from microtome.lab.bayes.pool import PoolPosterior


def prompts(pool, batch, points, noise_std, generator):
    w = pool[torch.randint(len(pool), (batch,), generator=generator)]
    xs = torch.randn(batch, points, pool.shape[1], generator=generator, dtype=torch.float64)
    noise = noise_std * torch.randn(batch, points, generator=generator, dtype=torch.float64)
    return xs, (xs @ w[..., None])[..., 0] + noise


def pool_of(tasks, dim, generator):
    return torch.randn(tasks, dim, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("tasks", [1, 2, 7])
def test_equals_bayes_rule_task_by_task(tasks, generator):
    pool = pool_of(tasks, 3, generator)
    xs, ys = prompts(pool, 3, 6, 0.5, generator)
    predictor = PoolPosterior(pool, 0.5)
    said, weights = predictor.predict(xs, ys), predictor.weights(xs, ys)
    belief = predictor.responsibilities(xs, ys)
    for b, k in np.ndindex(3, 6):
        x, y = xs[b, :k].numpy(), ys[b, :k].numpy()
        likelihood = np.array([norm.pdf(y, x @ w, 0.5).prod() for w in pool.numpy()])
        p = likelihood / likelihood.sum()
        answers = pool.numpy() @ xs[b, k].numpy()
        assert belief[b, k].numpy() == pytest.approx(p, rel=1e-9, abs=1e-12)
        assert weights[b, k].numpy() == pytest.approx(p @ pool.numpy(), rel=1e-9, abs=1e-12)
        assert said.mean[b, k].item() == pytest.approx(p @ answers, rel=1e-9, abs=1e-12)
        spread = p @ (answers - p @ answers) ** 2
        assert said.variance[b, k].item() == pytest.approx(spread + 0.25, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(tasks=st.integers(1, 40), noise_std=st.sampled_from([0.0, 1e-3, 0.5, 10.0]), block=st.sampled_from([1, 7, 4096]))
def test_answer_does_not_depend_on_the_blocks(tasks, noise_std, block):
    generator = torch.Generator().manual_seed(tasks)
    pool = pool_of(tasks, 2, generator)
    xs, ys = prompts(pool, 3, 6, noise_std, generator)
    predictor = PoolPosterior(pool, noise_std)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("microtome.lab.bayes.pool.BLOCK", block)
        said = predictor.predict(xs, ys)
    belief = predictor.responsibilities(xs, ys)
    torch.testing.assert_close(belief.sum(-1), torch.ones_like(ys))
    torch.testing.assert_close(said.mean, (belief * (xs @ pool.mT)).sum(-1), rtol=1e-8, atol=1e-8)
    assert (said.variance >= noise_std**2).all()


def test_first_entry_is_the_mean_of_the_pool(generator):
    pool = pool_of(5, 3, generator)
    xs, ys = prompts(pool, 4, 2, 0.5, generator)
    predictor = PoolPosterior(pool, 0.5)
    assert isinstance(predictor, LinearPredictor)
    torch.testing.assert_close(predictor.weights(xs, ys)[:, 0], pool.mean(0).expand(4, 3))


def test_reads_only_pairs_before(generator):
    pool = pool_of(5, 3, generator)
    xs, ys = prompts(pool, 4, 8, 0.5, generator)
    before = PoolPosterior(pool, 0.5).predict(xs, ys).mean
    xs[:, 5:], ys[:, 4:] = 1.0, 9.0
    after = PoolPosterior(pool, 0.5).predict(xs, ys).mean
    assert torch.equal(after[:, :5], before[:, :5])
    assert (after[:, 5:] != before[:, 5:]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_noise_one_pair_tells_the_task(dtype, generator):
    pool = pool_of(50, 3, generator).to(dtype)
    w = pool[torch.randint(50, (16,), generator=generator)]
    xs = torch.randn(16, 5, 3, generator=generator, dtype=dtype)
    ys = (xs @ w[..., None])[..., 0]
    said = PoolPosterior(pool, 0.0).predict(xs, ys)
    assert said.mean.dtype == dtype
    torch.testing.assert_close(said.mean[:, 2:], ys[:, 2:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("point", [0, 2, 7])
def test_is_calibrated(point, generator):
    pool = pool_of(4, 3, generator)
    xs, ys = prompts(pool, 2000, 8, 0.5, generator)

    def p_value(predictor: Probabilistic) -> float:
        return uniformity(integral_transform(predictor.law(xs, ys), ys, generator)[:, point])

    assert p_value(PoolPosterior(pool, 0.5)) > 1e-6
    assert p_value(PoolPosterior(pool, 1.0)) < 1e-6


def test_log_score_beats_other_laws(generator):
    pool = pool_of(4, 3, generator)
    xs, ys = prompts(pool, 2000, 8, 0.5, generator)
    own = PoolPosterior(pool, 0.5).law(xs, ys).log_prob(ys)
    others = (
        BayesLinear(0.5),
        PoolPosterior(pool, 0.8),
        PoolPosterior(pool[:3], 0.5),
        PoolPosterior(pool_of(64, 3, generator), 0.5),
    )
    for other in others:
        gap = (own - other.law(xs, ys).log_prob(ys)).mean(1)
        assert gap.mean() > 5 * gap.std() / math.sqrt(len(gap)), other.name


REFUSED = {
    "empty": (torch.zeros(0, 3), 0.5, "at least one task"),
    "a vector": (torch.zeros(3), 0.5, r"not \[3\]"),
    "a NaN": (torch.full((1, 2), torch.nan), 0.5, "pool must be finite"),
    "noise": (torch.zeros(1, 2), -0.5, "noise_std must be finite and at least 0"),
}


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_bad_pools_get_a_sentence(case):
    pool, noise_std, sentence = case
    with pytest.raises(ValueError, match=sentence):
        PoolPosterior(pool, noise_std)


def test_bad_prompts_get_a_sentence(monkeypatch):
    predictor = PoolPosterior(torch.zeros(4, 3), 0.5)
    with pytest.raises(ValueError, match="tasks have 3 dimensions, but xs has 2"):
        predictor.predict(torch.zeros(1, 2, 2), torch.zeros(1, 2))
    monkeypatch.setattr("microtome.lab.bayes.pool.MAX_LAW", 100)
    with pytest.raises(ValueError, match="104 numbers, more than the 100 allowed"):
        predictor.law(torch.zeros(13, 2, 3), torch.zeros(13, 2))

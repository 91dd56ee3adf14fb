"""The exact answer to softmax regression: against brute force, where it is exact, and by calibration.

Statistics are refused beyond 5 standard errors (6e-7 each), so that the file raises a false alarm less than once in
10,000 runs.
"""

import math
from dataclasses import replace

import pytest
import torch

from microtome.lab.bayes import BayesLinear, Predictor
from microtome.lab.bayes.softmax_posterior import SoftmaxPosterior
from microtome.lab.bayes.softmax_regression import SoftmaxStep, line_search
from microtome.lab.tasks.softmax_regression import SoftmaxRegression


def drawn(dim, points, batch, generator):
    task = SoftmaxRegression(dim)
    prompt = task.sample(batch, points, generator, dtype=torch.float64)
    return task, prompt, task.bayes().predict(prompt.xs, prompt.ys)


@pytest.mark.parametrize(("dim", "points"), [(1, 1), (1, 4), (2, 6), (3, 8), (5, 3)])
def test_it_is_exact_from_d_plus_one_pairs_on_and_at_the_last_point(dim, points, generator):
    _, prompt, said = drawn(dim, points, 20, generator)
    exact = [i for i in range(points) if i > dim or i == points - 1]
    torch.testing.assert_close(said.mean[:, exact], prompt.ys[:, exact], atol=1e-9, rtol=1e-5)
    assert (said.standard_error[:, exact] == 0).all()
    assert (said.variance[:, exact] == 0).all()
    sampled = [i for i in range(points) if i not in exact]
    assert (said.standard_error[:, sampled] > 0).all()


@pytest.mark.parametrize("pairs", [0, 1])
def test_it_agrees_with_rejection(pairs, generator):
    """d = 1, 3 points, no or one pair: draws from the prior are kept where they come near the pair.

    4 million draws; the window of ±2% leaves a bias of second order, far below the 3% allowed beside 5 standard errors.
    """
    task = SoftmaxRegression(1, prior_std=0.8)
    xs = torch.tensor([[[0.6], [-0.4], [0.0]]], dtype=torch.float64)
    w = 0.8 * torch.randn(4_000_000, generator=generator, dtype=torch.float64)
    later = torch.randn(3 - 1 - pairs, 4_000_000, generator=generator, dtype=torch.float64)
    known = xs[0, : pairs + 1, 0]
    shares = torch.cat([known[:, None].expand(-1, len(w)), later]).mul(w).exp()
    shares = shares / shares.sum(0)
    kept = (shares[0] - 0.45).abs() < 0.009 if pairs else torch.ones_like(w, dtype=torch.bool)
    values = shares[pairs, kept]
    predictor = replace(task.bayes(), draws=50_000)
    said = predictor.predict(xs, torch.tensor([[0.45, 0.3, 0.25]], dtype=torch.float64))
    error = math.hypot(said.standard_error[0, pairs].item(), (values.std() / math.sqrt(len(values))).item())
    wanted = values.mean().item()
    assert abs(said.mean[0, pairs].item() - wanted) < 5 * error + 0.03 * wanted * pairs
    assert said.variance[0, pairs].item() == pytest.approx(values.var().item(), rel=0.1)


def test_its_first_answers_are_calibrated_and_better_than_others(generator):
    """Entries with a Monte Carlo error below a tenth of their spread, chosen by what the predictor itself says, which
    knows nothing of the label."""
    task = SoftmaxRegression(2)
    prompt = task.sample(400, 6, generator, dtype=torch.float64)
    said = replace(task.bayes(), draws=20_000).predict(prompt.xs, prompt.ys)
    rate = line_search(prompt.xs, prompt.ys)
    others = [SoftmaxStep(rate).predict(prompt.xs, prompt.ys), BayesLinear(0.1, 0.1).predict(prompt.xs, prompt.ys)]
    for i in range(3):
        sound = said.standard_error[:, i].square() < 0.01 * said.variance[:, i]
        assert sound.sum() > 300
        off = (prompt.ys - said.mean)[sound, i]
        assert abs(off.mean()) < 5 * off.std() / math.sqrt(len(off))
        standard = off.square() / said.variance[sound, i]
        assert abs(standard.mean() - 1) < 5 * standard.std() / math.sqrt(len(off))
        for other in others:
            more = (prompt.ys - other.mean)[sound, i].square() - off.square()
            assert more.mean() > -5 * more.std() / math.sqrt(len(off))
    for other in others:
        assert (prompt.ys - other.mean).square().mean() > (prompt.ys - said.mean).square().mean()


def test_it_reads_the_past_only(generator):
    task, prompt, said = drawn(2, 8, 3, generator)
    for i in range(7):
        xs, ys = prompt.xs.clone(), prompt.ys.clone()
        xs[:, i + 1 :], ys[:, i:] = 0.3, 0.05
        again = task.bayes().predict(xs, ys)
        torch.testing.assert_close(again.mean[:, i], said.mean[:, i])


def test_pairs_that_no_draw_fits_say_so():
    """Ten equal inputs share evenly, so that a first share of 0.999 cannot be."""
    predictor = SoftmaxPosterior(prior_std=1e-3, draws=16)
    assert isinstance(predictor, Predictor)
    said = predictor.predict(torch.zeros(1, 10, 2), torch.full((1, 10), 0.999))
    assert said.standard_error[0, 1] == math.inf
    assert said.mean[0, 1].item() == pytest.approx(0.001 / 9, rel=1e-3)


@pytest.mark.usefixtures("untyped")
def test_bad_calls_get_a_sentence():
    for make, sentence in (
        (lambda: SoftmaxPosterior(prior_std=0.0), "prior_std must be finite and above 0"),
        (lambda: SoftmaxPosterior(scale=-1.0), "scale must be finite and above 0"),
        (lambda: SoftmaxPosterior(draws=1), "draws must be at least 2"),
        (lambda: SoftmaxPosterior().predict(torch.zeros(1, 3, 2), torch.zeros(1, 3)), "ys must be above 0"),
        (lambda: SoftmaxPosterior().predict(torch.zeros(0, 3, 2), torch.zeros(0, 3)), "at least one prompt"),
    ):
        with pytest.raises(ValueError, match=sentence):
            make()

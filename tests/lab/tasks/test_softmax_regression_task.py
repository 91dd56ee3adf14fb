"""The law of softmax regression in context (Li et al. 2023, icl_softmax_regression).

Statistics are refused beyond 5 standard errors (6e-7 each).
"""

import math

import pytest
import torch

from microtome.lab.tasks import Inputs, Spectrum, catalogue
from microtome.lab.tasks.softmax_regression import SoftmaxRegression


def test_labels_are_shares_of_all_points_the_query_among_them(generator):
    prompt = SoftmaxRegression(3, prior_std=1.5).sample(4, 6, generator, dtype=torch.float64)
    for b in range(4):
        exponentials = [math.exp(float(a @ prompt.latents["w"][b])) for a in prompt.xs[b]]
        wanted = torch.tensor([each / sum(exponentials) for each in exponentials], dtype=torch.float64)
        torch.testing.assert_close(prompt.ys[b], wanted)
    torch.testing.assert_close(prompt.ys.sum(1), torch.ones(4, dtype=torch.float64))
    assert (SoftmaxRegression(3).sample(4, 1, generator).ys == 1).all()


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_inputs_have_variance_one_over_d_and_weights_that_of_the_prior(scale, generator):
    prompt = SoftmaxRegression(4, 0.5, Inputs(scale=scale)).sample(4000, 3, generator, dtype=torch.float64)
    for values, variance in ((prompt.xs, scale**2 / 4), (prompt.latents["w"], 0.25)):
        squares = values.square().flatten()
        assert abs(squares.mean() - variance) < 5 * math.sqrt(2 / len(squares)) * variance


def test_generator_decides_everything():
    def drawn(seed):
        prompt = SoftmaxRegression(2).sample(3, 4, torch.Generator().manual_seed(seed))
        return torch.cat([prompt.xs.flatten(), prompt.ys.flatten(), prompt.latents["w"].flatten()])

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))


def test_it_survives_as_plain_values():
    task = SoftmaxRegression(2, 0.7, Inputs(scale=2.0))
    assert catalogue.build(catalogue.describe(task)) == task


REFUSED = {
    "no dimension": (lambda: SoftmaxRegression(0), "dim must be at least 1, not 0"),
    "prior": (lambda: SoftmaxRegression(2, prior_std=-1.0), "prior_std must be finite"),
    "inputs": (lambda: SoftmaxRegression(3, inputs=Inputs(Spectrum((1.0,)))), "1 eigenvalues, but the task 3"),
    "posterior": (lambda: SoftmaxRegression(2, inputs=Inputs(query="orthant")).bayes(), r"SoftmaxPosterior\("),
}


@pytest.mark.parametrize(("make", "sentence"), REFUSED.values(), ids=REFUSED)
def test_impossible_laws_are_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()

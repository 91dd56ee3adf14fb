"""The contract of every predictor, over the list of all: a new one is tested by being listed."""

import pytest
import torch

from microtome.lab import bayes
from microtome.lab.bayes import LinearPredictor, Predictor

DIM, POINTS, BATCH = 4, 11, 3
NOISY = bayes.listed(DIM, noise_std=0.5, prior_std=2.0)
NOISELESS = [predictor for predictor in bayes.listed(DIM, prior_std=2.0) if predictor not in NOISY]
PREDICTORS = [
    *(pytest.param(predictor, id=predictor.name) for predictor in NOISY),
    *(pytest.param(predictor, id=f"{predictor.name} without noise") for predictor in NOISELESS),
]
every_predictor = pytest.mark.parametrize("predictor", PREDICTORS)


def prompts(generator: torch.Generator, points: int = POINTS) -> tuple[torch.Tensor, torch.Tensor]:
    xs = torch.randn(BATCH, points, DIM, generator=generator, dtype=torch.float64)
    return xs, torch.randn(BATCH, points, generator=generator, dtype=torch.float64)


def outputs(predictor: Predictor, xs: torch.Tensor, ys: torch.Tensor) -> list[torch.Tensor]:
    """Everything a predictor says, each with [batch points] first."""
    prediction = predictor.predict(xs, ys)
    said = [prediction.mean] + ([] if prediction.variance is None else [prediction.variance])
    return said + ([predictor.weights(xs, ys)] if isinstance(predictor, LinearPredictor) else [])


def test_names_are_unique() -> None:
    names = [predictor.name for predictor in bayes.listed(DIM)]
    assert len(set(names)) == len(names)


@every_predictor
def test_is_a_predictor(predictor: Predictor) -> None:
    assert isinstance(predictor, Predictor)


@every_predictor
def test_entry_reads_only_pairs_before_it(predictor: Predictor, generator: torch.Generator) -> None:
    xs, ys = prompts(generator)
    said = outputs(predictor, xs, ys)
    for i in range(POINTS):
        other_xs, other_ys = xs.clone(), ys.clone()
        other_xs[:, i + 1 :] = 3 * torch.randn(xs[:, i + 1 :].shape, generator=generator, dtype=xs.dtype)
        other_ys[:, i:] = 3 * torch.randn(ys[:, i:].shape, generator=generator, dtype=ys.dtype)
        for before, after in zip(said, outputs(predictor, other_xs, other_ys), strict=True):
            torch.testing.assert_close(after[:, : i + 1], before[:, : i + 1], rtol=1e-10, atol=1e-10)


@every_predictor
def test_pair_before_is_read(predictor: Predictor, generator: torch.Generator) -> None:
    xs, ys = prompts(generator)
    changed = ys.clone()
    changed[:, 0] += 1
    moved = predictor.predict(xs, changed).mean - predictor.predict(xs, ys).mean
    assert (moved[:, 1] != 0).all()


@every_predictor
def test_prompts_do_not_see_each_other(predictor: Predictor, generator: torch.Generator) -> None:
    xs, ys = prompts(generator)
    together = outputs(predictor, xs, ys)
    for b in range(BATCH):
        for all_, one in zip(together, outputs(predictor, xs[b : b + 1], ys[b : b + 1]), strict=True):
            torch.testing.assert_close(all_[b : b + 1], one, rtol=1e-10, atol=1e-10)


@every_predictor
@pytest.mark.parametrize("points", [1, 2, DIM, POINTS])
def test_first_entry_is_the_prior_mean(predictor: Predictor, points: int, generator: torch.Generator) -> None:
    xs, ys = prompts(generator, points)
    prediction = predictor.predict(xs, ys)
    assert prediction.mean.shape == (BATCH, points)
    assert (prediction.mean[:, 0] == 0).all()
    assert torch.isfinite(prediction.mean).all()
    if prediction.variance is not None:
        assert (prediction.variance >= 0).all()


@every_predictor
def test_dtype_is_kept_and_inputs_are_left_alone(predictor: Predictor, generator: torch.Generator) -> None:
    xs, ys = prompts(generator)
    single_xs, single_ys = xs.float(), ys.float()
    kept = single_xs.clone(), single_ys.clone()
    for single, double in zip(outputs(predictor, single_xs, single_ys), outputs(predictor, xs, ys), strict=True):
        assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    # On the same numbers the two dtypes give the same answer, to the rounding of the result.
    same = outputs(predictor, single_xs.double(), single_ys.double())
    for single, double in zip(outputs(predictor, single_xs, single_ys), same, strict=True):
        torch.testing.assert_close(single, double.float(), rtol=1e-5, atol=1e-6)
    assert torch.equal(single_xs, kept[0])
    assert torch.equal(single_ys, kept[1])


@every_predictor
def test_answers_carry_no_gradient(predictor: Predictor, generator: torch.Generator) -> None:
    xs, ys = prompts(generator)
    assert not any(said.requires_grad for said in outputs(predictor, xs.requires_grad_(), ys))


@pytest.mark.parametrize("predictor", [p for p in PREDICTORS if isinstance(p.values[0], LinearPredictor)])
def test_linear_mean_is_weights_times_input(predictor: LinearPredictor, generator: torch.Generator) -> None:
    xs, ys = prompts(generator)
    mean = (predictor.weights(xs, ys) * xs).sum(-1)
    torch.testing.assert_close(predictor.predict(xs, ys).mean, mean, rtol=1e-10, atol=1e-10)


@every_predictor
def test_inputs_of_zeros_say_nothing(predictor: Predictor, generator: torch.Generator) -> None:
    xs, ys = prompts(generator)
    said = outputs(predictor, torch.zeros_like(xs), ys)
    assert all(torch.isfinite(each).all() for each in said)
    if isinstance(predictor, LinearPredictor):
        assert not said[0].any()


REFUSED = {
    "no prompt": (torch.zeros(0, POINTS, DIM), torch.zeros(0, POINTS), ValueError, "at least one prompt"),
    "no point": (torch.zeros(2, 0, DIM), torch.zeros(2, 0), ValueError, "one point"),
    "no dimension": (torch.zeros(2, 3, 0), torch.zeros(2, 3), ValueError, "one dimension"),
    "one prompt without batch": (torch.zeros(3, DIM), torch.zeros(3), ValueError, r"\[batch points dim\]"),
    "other points": (torch.zeros(2, 3, DIM), torch.zeros(2, 4), ValueError, r"\[2, 3, 4\] and \[2, 4\]"),
    "integers": (torch.zeros(2, 3, DIM, dtype=torch.long), torch.zeros(2, 3), TypeError, "torch.int64"),
    "a list": (torch.zeros(2, 3, DIM), [[0.0] * 3] * 2, TypeError, "ys .* not list"),
    "a NaN": (torch.zeros(2, 3, DIM), torch.tensor([[0, 1, 2], [0, torch.nan, 1]]), ValueError, "prompt 1"),
    "infinity": (torch.full((2, 3, DIM), torch.inf), torch.zeros(2, 3), ValueError, "xs must be finite"),
}


@pytest.mark.usefixtures("untyped")
@every_predictor
@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_bad_prompts_get_a_sentence(predictor: Predictor, case: tuple) -> None:
    xs, ys, kind, sentence = case
    with pytest.raises(kind, match=sentence):
        predictor.predict(xs, ys)
    if isinstance(predictor, LinearPredictor):
        with pytest.raises(kind, match=sentence):
            predictor.weights(xs, ys)

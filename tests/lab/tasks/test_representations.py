"""How do transformers learn in-context beyond simple functions (Guo et al. 2024): its laws and their exact answers.

Statistical tests have a false-alarm rate below 1e-6 each; the sizes of their samples are reasoned where they stand.
"""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge as SklearnRidge

from microtome.lab.bayes import BayesLinear, integral_transform, log_score, squared_error, uniformity
from microtome.lab.bayes.mixture import BayesMixture
from microtome.lab.tasks.dynamics import RepresentationDynamics
from microtome.lab.tasks.inputs import Inputs, Spectrum
from microtome.lab.tasks.representations import Representation, RepresentationRegression, second_moment

DIM, WIDTH, POINTS = 3, 5, 9
PHI = Representation(DIM, WIDTH, 2, seed=1)
SINGLE = RepresentationRegression((PHI,), noise_std=0.5, prior_std=1.5)
SEVERAL = RepresentationRegression(
    tuple(Representation(DIM, WIDTH, 2, seed=seed) for seed in (1, 2, 3)), noise_std=0.3, prior_std=1.5
)
TASKS = {
    "one": SINGLE,
    "several": SEVERAL,
    "skewed": dataclasses.replace(SINGLE, inputs=Inputs(Spectrum.power_law(DIM))),
    "resampled": dataclasses.replace(SINGLE, resampled=True),
}
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


@settings(max_examples=25)
@given(dim=st.integers(1, 6), width=st.integers(1, 6), depth=st.integers(1, 4), seed=st.integers(0, 99))
def test_matrices_are_orthogonal_and_the_network_is_the_formula(dim, width, depth, seed):
    phi = Representation(dim, width, depth, seed=seed)
    x = torch.randn(7, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    hidden = x
    for B in phi.matrices():
        square = B @ B.mT if len(B) <= B.shape[1] else B.mT @ B
        torch.testing.assert_close(square, torch.eye(len(square), dtype=torch.float64))
        u = torch.einsum("oi,pi->po", B, hidden)
        hidden = torch.where(u > 0, u, 0.01 * u)
    torch.testing.assert_close(phi(x), hidden)
    torch.testing.assert_close(phi.upto(depth)(x), hidden)
    assert torch.equal(phi.upto(0)(x), x)


def test_a_representation_is_frozen_and_its_first_layers_are_shared():
    x = torch.linspace(-1, 1, DIM)
    assert torch.equal(PHI(x), Representation(DIM, WIDTH, 2, seed=1)(x))
    assert not torch.equal(PHI(x), Representation(DIM, WIDTH, 2, seed=2)(x))
    last = PHI.matrices()[1].float()
    torch.testing.assert_close(F.leaky_relu(PHI.upto(1)(x) @ last.mT, 0.01), PHI(x))


def test_second_moment_is_that_of_one_layer():
    """One orthogonal layer of N(0, I) gives D numbers of second moment (1 + slope²)/2; standard error below 0.3%."""
    assert second_moment(Representation(4, 4, 1)) == pytest.approx(4 * (1 + 0.01**2) / 2, rel=0.02)


@every_task
@pytest.mark.parametrize(("batch", "points"), [(1, 1), (4, POINTS)])
def test_prompts_have_their_shapes_and_obey_the_formula(task, batch, points, generator):
    quiet = dataclasses.replace(task, noise_std=0.0)
    prompt = quiet.sample(batch, points, generator, dtype=torch.float64)
    assert prompt.xs.shape == (batch, points, DIM)
    assert prompt.ys.shape == (batch, points)
    wanted = torch.einsum("bpf,bf->bp", prompt.latents["features"], prompt.latents["w"])
    torch.testing.assert_close(prompt.ys, wanted)
    if not task.resampled:
        which = prompt.latents.get("component", torch.zeros(batch, dtype=torch.long))
        for row in range(batch):
            own = task.representations[which[row]](prompt.xs[row])
            torch.testing.assert_close(prompt.latents["features"][row], own)


@every_task
def test_the_generator_alone_decides(task):
    def drawn(seed):
        prompt = task.sample(4, 5, torch.Generator().manual_seed(seed))
        return torch.cat([prompt.xs.flatten(), prompt.ys.flatten(), prompt.latents["features"].flatten()])

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))


def test_a_resampled_task_shares_nothing_between_prompts(generator):
    task = TASKS["resampled"]
    one_layer = dataclasses.replace(task, representations=(Representation(DIM, DIM, 1, slope=1.0),))
    drawn = one_layer.sample(2, 4, generator, dtype=torch.float64)
    # With slope 1 Φ is a matrix, which can be solved for: orthogonal, and another in each prompt.
    maps = torch.linalg.lstsq(drawn.xs, drawn.latents["features"]).solution
    torch.testing.assert_close(maps @ maps.mT, torch.eye(DIM, dtype=torch.float64).expand(2, -1, -1))
    assert (maps[0] - maps[1]).abs().max() > 0.1
    with pytest.raises(ValueError, match='latent "features"'):
        task.bayes()


def test_depth_zero_equals_linear_regression(generator):
    identity = RepresentationRegression((Representation(4, 4, 0),), noise_std=0.5, prior_std=2.0)
    prompt = identity.sample(16, 10, generator, dtype=torch.float64)
    ours = identity.bayes().predict(prompt.xs, prompt.ys)
    linear = BayesLinear(0.5, 2.0).predict(prompt.xs, prompt.ys)
    torch.testing.assert_close(ours.mean, linear.mean)
    torch.testing.assert_close(ours.variance, linear.variance)


def test_the_exact_answer_is_sklearn_s_ridge_on_the_representation(generator):
    prompt = SINGLE.sample(3, POINTS, generator, dtype=torch.float64)
    said = SINGLE.bayes().predict(prompt.xs, prompt.ys)
    features = PHI(prompt.xs)
    for b in range(3):
        for k in range(1, POINTS):
            theirs = SklearnRidge(alpha=(0.5 / 1.5) ** 2, fit_intercept=False).fit(features[b, :k], prompt.ys[b, :k])
            assert said.mean[b, k].item() == pytest.approx(theirs.predict(features[b, k : k + 1])[0], abs=1e-9)


def test_the_exact_answer_is_gaussian_conditioning(generator):
    """Mean and variance against the joint Gaussian of the labels, conditioned by hand."""
    prompt = SINGLE.sample(4, 5, generator, dtype=torch.float64)
    said = SINGLE.bayes().predict(prompt.xs, prompt.ys)
    features = PHI(prompt.xs)
    joint = 1.5**2 * features @ features.mT + 0.25 * torch.eye(5, dtype=torch.float64)
    for k in range(5):
        gain = torch.linalg.solve(joint[:, :k, :k], joint[:, :k, k:])[..., 0, None] if k else joint[:, :0, :1]
        mean = (gain * prompt.ys[:, :k, None]).sum((1, 2))
        variance = joint[:, k, k] - (gain[..., 0] * joint[:, :k, k]).sum(1)
        torch.testing.assert_close(said.mean[:, k], mean)
        torch.testing.assert_close(said.variance[:, k], variance)


def test_without_noise_more_pairs_than_features_leave_no_risk(generator):
    task = dataclasses.replace(SINGLE, noise_std=0.0)
    prompt = task.sample(64, 4 * WIDTH, generator, dtype=torch.float64)
    risk = squared_error(task.bayes().predict(prompt.xs, prompt.ys), prompt.ys)
    assert risk[:, WIDTH + 1 :].max() < 1e-9
    assert risk[:, 0].mean() > 0.1


@pytest.mark.parametrize("name", ["one", "several", "skewed"])
def test_the_exact_answer_is_calibrated(name, generator):
    """2,000 prompts at one position are independent, 100 a bin; p < 1e-6 happens once in a million runs."""
    task = TASKS[name]
    prompt = task.sample(2000, 4, generator, dtype=torch.float64)
    transform = integral_transform(task.bayes().law(prompt.xs, prompt.ys), prompt.ys, generator)
    assert uniformity(transform[:, 3]) > 1e-6


@pytest.mark.parametrize("name", ["one", "several"])
def test_the_exact_answer_beats_every_baseline_on_its_own_law(name, generator):
    """By more than 5 standard errors of the paired difference of log scores on 2,000 prompts, and in risk too."""
    task = TASKS[name]
    prompt = task.sample(2000, POINTS, generator, dtype=torch.float64)
    exact = task.bayes()
    best = log_score(exact.law(prompt.xs, prompt.ys), prompt.ys)
    for other in task.baselines():
        # Capped, which is to the baselines' favour: least squares, sure of itself, loses without bound.
        gain = (best - log_score(other.law(prompt.xs, prompt.ys), prompt.ys))[:, 1:].mean(1).clamp(max=100)
        assert gain.mean() > 5 * gain.std() / math.sqrt(len(gain)), other.name
        less = squared_error(other.predict(prompt.xs, prompt.ys), prompt.ys) - squared_error(
            exact.predict(prompt.xs, prompt.ys), prompt.ys
        )
        assert less[:, 1:].mean() > 0, other.name


def test_baselines_are_ridge_on_every_earlier_layer_and_least_squares():
    assert [b.name for b in SINGLE.baselines()] == ["ridge on x", "ridge on Φ_1", "least squares on Φ*"]


def test_a_mixture_of_one_equals_ridge(generator):
    prompt = SINGLE.sample(8, POINTS, generator, dtype=torch.float64)
    mixture = BayesMixture((SINGLE.bayes(),), (1.0,)).predict(prompt.xs, prompt.ys)
    ridge = SINGLE.bayes().predict(prompt.xs, prompt.ys)
    torch.testing.assert_close(mixture.mean, ridge.mean)
    torch.testing.assert_close(mixture.variance, ridge.variance)


def test_the_mixture_is_the_ridges_weighted_by_their_evidence(generator):
    """log N(y; 0, τ²ΦₖΦₖᵀ + σ²I) by torch's own multivariate normal; the weights sum to one."""
    prompt = SEVERAL.sample(6, POINTS, generator, dtype=torch.float64)
    said = SEVERAL.bayes().predict(prompt.xs, prompt.ys)
    features = [phi(prompt.xs) for phi in SEVERAL.representations]
    ridges = [SEVERAL.on(phi).predict(prompt.xs, prompt.ys).mean for phi in SEVERAL.representations]
    for k in (1, 4, POINTS - 1):
        evidence = [
            torch.distributions.MultivariateNormal(
                torch.zeros(k, dtype=torch.float64),
                1.5**2 * phi[:, :k] @ phi[:, :k].mT + 0.3**2 * torch.eye(k, dtype=torch.float64),
            ).log_prob(prompt.ys[:, :k])
            for phi in features
        ]
        weights = torch.stack(evidence).softmax(0)
        torch.testing.assert_close(weights.sum(0), torch.ones(6, dtype=torch.float64))
        wanted = sum(w * ridge[:, k] for w, ridge in zip(weights, ridges, strict=True))
        torch.testing.assert_close(said.mean[:, k], wanted)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Representation(0, 2, 1), "dim must be at least 1"),
        (lambda: Representation(2, 3, 0), "width must be dim = 2, not 3"),
        (lambda: Representation(2, 2, -1), "depth must be at least 0, not -1"),
        (lambda: Representation(2, 2, 1, slope=2.0), "slope must lie between 0 and 1"),
        (lambda: PHI.upto(3), "layer must lie between 0 and depth = 2, not 3"),
        (lambda: RepresentationRegression(()), "at least one"),
        (lambda: RepresentationRegression((PHI, Representation(2, 2, 1))), "same dim and width"),
        (lambda: RepresentationRegression((PHI,), noise_std=-1.0), "noise_std"),
        (lambda: RepresentationRegression((PHI, PHI), resampled=True), "takes one representation"),
        (lambda: RepresentationRegression((PHI,), inputs=Inputs(Spectrum.power_law(7))), "7 eigenvalues"),
        (lambda: PHI(torch.zeros(2, 4)), "in 3 dimensions, not 4"),
        (lambda: RepresentationDynamics(PHI, 2, 0.1, 1.0), "3 numbers, which 2 states"),
        (lambda: RepresentationDynamics(PHI, 0, 0.1, 1.0), "lags must be at least 1"),
    ],
)
def test_bad_arguments_get_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


LAGS = 2
SYSTEM = RepresentationDynamics(Representation(2 * LAGS, 4, 1, seed=5), LAGS, noise_std=0.3, prior_std=0.7)


def test_sequences_follow_their_law(generator):
    quiet = dataclasses.replace(SYSTEM, noise_std=0.0)
    drawn = quiet.sample(5, 7, generator, dtype=torch.float64)
    for i in range(LAGS, 7):
        lagged = torch.cat([drawn.xs[:, i - 2], drawn.xs[:, i - 1]], dim=-1)
        wanted = torch.einsum("bof,bf->bo", drawn.latents["W"], SYSTEM.representation(lagged))
        torch.testing.assert_close(drawn.xs[:, i], wanted)
        torch.testing.assert_close(quiet.features(drawn.xs)[:, i - LAGS], SYSTEM.representation(lagged))
    assert torch.equal(
        quiet.sample(2, 5, torch.Generator().manual_seed(1)).xs, quiet.sample(2, 5, torch.Generator().manual_seed(1)).xs
    )


def test_the_next_state_is_multi_output_ridge(generator):
    xs = SYSTEM.sample(3, 9, generator, dtype=torch.float64).xs
    said, features = SYSTEM.predict(xs), SYSTEM.features(xs)
    assert (said.mean[:, :LAGS] == 0).all()
    assert (said.variance[:, :LAGS] == 1).all()
    for b in range(3):
        for i in range(LAGS + 1, 9):
            theirs = SklearnRidge(alpha=(0.3 / 0.7) ** 2, fit_intercept=False)
            theirs.fit(features[b, : i - LAGS], xs[b, LAGS:i])
            wanted = torch.from_numpy(theirs.predict(features[b, i - LAGS : i - LAGS + 1]))[0]
            torch.testing.assert_close(said.mean[b, i], wanted)


def test_a_state_is_predicted_from_those_before_only(generator):
    xs = SYSTEM.sample(2, 8, generator, dtype=torch.float64).xs
    before = SYSTEM.predict(xs)
    for i in (0, 3, 7):
        changed = xs.clone()
        changed[:, i:] += 1.0
        after = SYSTEM.predict(changed)
        assert torch.equal(after.mean[:, : i + 1], before.mean[:, : i + 1])
        assert torch.equal(after.variance[:, : i + 1], before.variance[:, : i + 1])
        assert i == 7 or not torch.equal(after.mean[:, i + 1 :], before.mean[:, i + 1 :])


def test_next_states_are_calibrated(generator):
    """One coordinate at one position of 2,000 sequences: independent draws, p < 1e-6 once in a million runs."""
    xs = SYSTEM.sample(2000, 8, generator, dtype=torch.float64).xs
    said = SYSTEM.predict(xs)
    for i in (1, 7):
        standard = (xs[:, i, 0] - said.mean[:, i, 0]) / said.variance[:, i].sqrt()
        assert uniformity(torch.special.ndtr(standard)) > 1e-6


def test_states_that_cannot_be_are_refused(generator):
    with pytest.raises(ValueError, match="outgrow"):
        dataclasses.replace(SYSTEM, prior_std=1e6).sample(2, 60, generator)
    with pytest.raises(ValueError, match="NaN"):
        SYSTEM.predict(torch.full((1, 4, 2), torch.nan))
    with pytest.raises(ValueError, match="no transition"):
        SYSTEM.features(torch.zeros(1, 2, 2))
    assert SYSTEM.predict(torch.zeros(1, 1, 2)).mean.shape == (1, 1, 2)


@pytest.mark.usefixtures("untyped")
def test_states_of_a_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"\[batch points 2\]"):
        SYSTEM.predict(torch.zeros(4, 2))

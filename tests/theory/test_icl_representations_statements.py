"""Ridge on a representation by construction: each layer against the formula, the whole against ridge."""

import pytest
import torch

from microtome.lab.tasks.representations import Representation, RepresentationRegression
from microtome.theory import registry
from microtome.theory.constructions.icl_representations import BOUND, Descent, direct_steps
from microtome.theory.statements import icl_representations_numeric as statements


def drawn(dim, width, depth, points, seed, noise=0.7):
    task = RepresentationRegression((Representation(dim, width, depth, seed=seed),), noise_std=noise)
    return task, task.sample(6, points, torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("dim", "width", "depth", "points", "decay"),
    [(3, 3, 0, 4, 0.5), (1, 1, 1, 1, 0.0), (4, 2, 1, 5, 1.3), (2, 5, 3, 4, 0.2)],
)
def test_a_layer_is_one_ridge_gradient_step(dim, width, depth, points, decay):
    """w − (η/i)[Σ(⟨w, Φ_j⟩ − y_j)Φ_j + λw], written out pair by pair, at each layer and prefix."""
    task, prompt = drawn(dim, width, depth, points, seed=dim)
    descent = Descent(task.representations[0], points, steps=3, rate=0.3, decay=decay)
    w = descent.iterates(descent.model(), prompt.xs, prompt.ys)
    assert (w[0] == 0).all()
    features = task.representations[0](prompt.xs)
    for t in range(3):
        for n in range(points):
            gradient = decay * w[t, :, n]
            for j in range(n):
                residual = (w[t, :, n] * features[:, j]).sum(-1) - prompt.ys[:, j]
                gradient = gradient + residual[:, None] * features[:, j]
            wanted = w[t, :, n] - 0.3 / (2 * n + 1) * gradient
            torch.testing.assert_close(w[t + 1, :, n], wanted, atol=1e-11, rtol=1e-9)


def test_direct_steps_are_autograd_s(generator):
    _, prompt = drawn(3, 3, 1, 5, seed=2)
    features, n = prompt.latents["features"], 4
    found = direct_steps(features, prompt.ys, 2, 0.3, 0.5)[:, :, n]
    w = torch.zeros(6, 3, dtype=torch.float64)
    for t in range(2):
        w = w.detach().requires_grad_()
        loss = ((features[:, :n] @ w[..., None])[..., 0] - prompt.ys[:, :n]).square().sum() + 0.5 * w.square().sum()
        (slope,) = torch.autograd.grad(loss / 2, w)
        w = w - 0.3 / (2 * n + 1) * slope
        torch.testing.assert_close(found[t + 1], w.detach())


def test_enough_layers_are_ridge_on_the_representation():
    task, prompt = drawn(3, 4, 2, 6, seed=1, noise=1.0)
    descent = Descent(task.representations[0], 6, steps=60, rate=1.0, decay=1.0)
    answer = descent.model().predict(prompt.xs, prompt.ys).mean
    torch.testing.assert_close(answer, task.bayes().predict(prompt.xs, prompt.ys).mean, atol=1e-3, rtol=0)


def test_the_first_layers_hold_the_representation_in_order():
    task, prompt = drawn(3, 4, 3, 5, seed=1)
    phi, descent = task.representations[0], Descent(task.representations[0], 5, 1, 0.1, 0.0)
    model = descent.model()
    _, cache = model.run_with_cache(prompt.xs, prompt.ys)
    for layer in range(3):
        held = cache["resid_post", layer][..., descent.rows("phi")]
        torch.testing.assert_close(held[:, ::2], phi.upto(layer + 1)(prompt.xs))
        assert (held[:, 1::2] == 0).all(), "y-tokens stay blank until the copy"
    copied = cache["resid_post", 3][:, 1::2, descent.rows("psi")]
    torch.testing.assert_close(copied, phi(prompt.xs))


def test_the_constructed_model_is_read_by_the_same_tools():
    task, prompt = drawn(3, 4, 2, 5, seed=1)
    model = Descent(task.representations[0], 5, 2, 0.1, 0.5).model()
    effective = model.effective_attention(prompt.xs, prompt.ys)[2]
    copy = torch.zeros(10, 10, dtype=torch.float64)
    copy[torch.arange(1, 10), torch.arange(9)] = 1.0
    torch.testing.assert_close(effective.matrix[:, 0], copy.expand(6, -1, -1))
    assert effective.exact


def test_a_reading_beyond_its_bound_is_not_claimed():
    task, prompt = drawn(2, 2, 1, 3, seed=1)
    descent = Descent(task.representations[0], 3, 5, 1.0, 0.0)
    huge = prompt.ys * 1e6
    model = descent.model()
    w = descent.iterates(model, prompt.xs, huge)[-1]
    answer = (w * prompt.latents["features"]).sum(-1)
    said = model.predict(prompt.xs, huge).mean
    beyond = (answer * torch.tensor([1, 3, 5])).abs() > BOUND
    assert beyond.any()
    assert not torch.allclose(said[beyond], answer[beyond], rtol=1e-3)


@pytest.mark.parametrize("claim", registry.listing(slug="icl_representations"), ids=lambda c: c.statement.name)
def test_the_statements_hold_and_their_controls_fail(claim):
    evidence = claim.run("quick", seed=1)
    assert evidence.verdict == "holds", evidence.to_json()
    assert not evidence.control.passes


def test_convergence_is_held_against_each_prefix_s_own_condition_number():
    found = statements.converge(20, 1e-1, seed=3)
    assert found.error[0] == 1
    assert (found.error.diff() < 0).all()
    assert found.layers(0.1) == len(found.error) - 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"rate": 0.0}, "rate must be above 0"),
        ({"decay": -1.0}, "decay at least 0"),
    ],
)
def test_bad_arguments_get_a_sentence(change, message):
    with pytest.raises(ValueError, match=message):
        Descent(
            **{"representation": Representation(2, 2, 1), "points": 3, "steps": 1, "rate": 0.1, "decay": 0.0, **change}
        )


def test_an_unknown_register_is_refused():
    with pytest.raises(KeyError, match="no register is called 'v'"):
        Descent(Representation(2, 2, 1), 3, 1, 0.1, 0.0).rows("v")

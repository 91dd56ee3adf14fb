"""What learning algorithm is in-context learning (Akyürek et al. 2023): its checks and its claim.

The checks on Sherman-Morrison steps, minimum-norm OLS and the limit of ridge are laws of the predictors as well; here
they are put as the paper puts them.
"""

import pytest
import torch

from microtome.lab import zoo
from microtome.lab.bayes import OLS, Ridge, sherman_morrison
from microtome.lab.tasks import LinearRegression
from microtome.theory import claims


@pytest.fixture
def prompt(generator):
    return LinearRegression(8, noise_std=0.5).sample(16, 20, generator, dtype=torch.float64)


def ridge_weights(xs, ys, lam):
    gram = xs.mT @ xs + lam * torch.eye(xs.shape[-1], dtype=xs.dtype)
    return torch.linalg.solve(gram, (xs.mT @ ys[..., None]))[..., 0]


def test_n_sherman_morrison_steps_are_direct_ridge(prompt):
    steps = sherman_morrison(prompt.xs, prompt.ys, 0.25)
    for k in (1, 3, 8, 19):
        wanted = ridge_weights(prompt.xs[:, :k], prompt.ys[:, :k], 0.25)
        torch.testing.assert_close(steps[:, k], wanted, atol=1e-9, rtol=1e-9)


def test_minimum_norm_ols_interpolates_up_to_d_pairs(prompt):
    for k in range(1, 9):
        xs = torch.cat([prompt.xs[:, :k], prompt.xs[:, :k]], dim=1)
        ys = torch.cat([prompt.ys[:, :k], prompt.ys[:, :k]], dim=1)
        again = OLS().predict(xs, ys).mean[:, k:]
        torch.testing.assert_close(again[:, 0], ys[:, 0], atol=1e-7, rtol=1e-7)
        torch.testing.assert_close(again, ys[:, :k], atol=1e-7, rtol=1e-7)


def test_lambda_times_ridge_tends_to_the_moment(prompt):
    lam = 1e9
    mean = Ridge(lam).predict(prompt.xs, prompt.ys).mean
    moments = (prompt.xs * prompt.ys[..., None]).cumsum(1)
    wanted = (moments[:, :-1] * prompt.xs[:, 1:]).sum(-1)
    torch.testing.assert_close(lam * mean[:, 1:], wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", ["one_layer", "two_layer"])
def test_a_prediction_ignores_its_own_label_and_later_pairs(variant, generator):
    learner = zoo.build("icl_linear_algorithms", variant)
    prompt = LinearRegression(8).sample(2, 41, generator)
    before = learner(prompt.xs, prompt.ys)
    for j in (0, 7, 40):
        xs, ys = prompt.xs.clone(), prompt.ys.clone()
        xs[:, j + 1 :] += 1.0
        ys[:, j:] -= 3.0
        torch.testing.assert_close(learner(xs, ys)[:, : j + 1], before[:, : j + 1], atol=1e-6, rtol=0)
        assert j == 40 or (learner(xs, ys)[:, j + 1 :] - before[:, j + 1 :]).abs().max() > 1e-4


def test_heads_are_narrowed_twice():
    learner = zoo.build("icl_linear_algorithms")
    attn = learner.blocks[0].attn
    assert attn.W_Q.shape == (4, 512, 32), "H/M wide in all, H/M² a head"
    with pytest.raises(ValueError, match="d_model/n_heads²"):
        zoo.build("icl_linear_algorithms", n_heads=3)


def test_the_stream_itself_is_normalised(generator):
    learner = zoo.build("icl_linear_algorithms", "one_layer")
    prompt = LinearRegression(8).sample(2, 5, generator)
    _, cache = learner.run_with_cache(prompt.xs, prompt.ys)
    block, ln1 = learner.blocks[0], learner.blocks[0].ln1
    mid = ln1(cache["resid_pre", 0]) + cache["attn_out", 0]
    torch.testing.assert_close(cache["resid_post", 0], block.ln2(mid) + cache["mlp_out", 0], atol=1e-6, rtol=1e-5)
    assert {p.name: p.status for p in learner.points()}["blocks.0.hook_resid_mid"] == "absent"


def test_the_claim_does_not_fail_at_the_quick_budget():
    evidence = claims.load("icl_linear_algorithms").run(budget="quick", seed=0)
    assert evidence.verdict in ("holds", "inconclusive"), evidence.to_json()
    constructed = [part for part in evidence.parts if part.kind != "empirical"]
    assert constructed
    assert all(part.verdict == "holds" for part in constructed)


@pytest.mark.slow
def test_the_claim_holds_at_the_full_budget():
    evidence = claims.load("icl_linear_algorithms").run(budget="full", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()

"""Pruning by magnitude, movement and heads."""

import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils import prune

from microtome.lab import zoo
from microtome.lab.zoo.compression import pruning


@pytest.fixture
def model():
    return zoo.sequence(d_vocab=7, d_model=16, n_layers=2, n_heads=4, n_ctx=10).double()


@pytest.fixture
def tokens(generator):
    return torch.randint(7, (5, 10), generator=generator)


def losses(model, tokens):
    logits = model(tokens)[:, :-1]
    return F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none").sum(1)


def test_magnitude_keeps_the_largest_weights_of_the_whole_model(model):
    before = torch.cat([m.weight.detach().abs().flatten() for m, _ in pruning.prunable(model)])
    pruning.magnitude(model, 0.75)
    after = torch.cat([m.weight.detach().abs().flatten() for m, _ in pruning.prunable(model)])
    assert pruning.sparsity(model) == pytest.approx(0.75, abs=1e-4)
    assert torch.equal(after, torch.where(before >= before.quantile(0.75), before, 0.0))
    shares = [(m.weight == 0).double().mean() for m, _ in pruning.prunable(model)]
    assert max(shares) > min(shares) + 0.02, "the threshold is one for all"


def test_movement_scores_are_minus_eta_w_gradient(model, tokens):
    movement, weight = pruning.Movement(model), model.blocks[0].attn.q.weight
    wanted = torch.zeros_like(weight)
    for _ in range(2):
        model.zero_grad()
        losses(model, tokens).mean().backward()
        movement.observe(0.1)
        wanted -= 0.1 * weight.detach() * weight.grad
    torch.testing.assert_close(movement.scores[0], wanted)


def test_movement_takes_away_what_moves_towards_zero(model, tokens):
    movement = pruning.Movement(model)
    losses(model, tokens).mean().backward()
    movement.observe(1.0)
    every = torch.cat([score.flatten() for score in movement.scores])
    movement.prune(0.4)
    kept = torch.cat([m.weight_mask.flatten() for m, _ in pruning.prunable(model)]).bool()
    assert pruning.sparsity(model) == pytest.approx(0.4, abs=1e-3)
    assert every[kept].min() >= every[~kept].max()
    before = torch.cat([m.weight_orig.detach().abs().flatten() for m, _ in pruning.prunable(model)])
    assert before[~kept].max() > before[kept].min(), "it is not magnitude"


def test_pruned_weights_stay_zero_in_training(model, tokens):
    pruning.magnitude(model, 0.5)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    losses(model, tokens).mean().backward()
    optimizer.step()
    model(tokens)
    assert pruning.sparsity(model) >= 0.5
    for module, name in pruning.prunable(model):
        prune.remove(module, name)
    assert pruning.sparsity(model) >= 0.5


def test_head_importance_is_the_change_that_scaling_a_head_makes(model, tokens):
    """|z_hᵀ ∂L/∂z_h| is the slope of L in a factor on head h's output at one."""
    kept, hooks = pruning.watched_z(model)
    with model.hooks(fwd_hooks=hooks):
        found = pruning.head_importance(model, losses(model, tokens), kept)
    assert found.shape == (2, 4)
    step = 1e-6
    for layer, head in ((0, 1), (1, 3)):

        def scaled(z, hook, by=1 + step, head=head):
            return torch.cat([z[:, :, :head], by * z[:, :, head : head + 1], z[:, :, head + 1 :]], dim=2)

        changed = model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", scaled)])[:, :-1]
        after = F.cross_entropy(changed.transpose(1, 2), tokens[:, 1:], reduction="none").sum(1)
        slope = ((after - losses(model, tokens)) / step).abs().mean().item()
        assert found[layer, head].item() == pytest.approx(slope, rel=1e-3)


def test_a_pruned_head_writes_nothing_and_matters_not(model, tokens):
    pruning.prune_heads(model, {1: [0, 2]})
    kept, hooks = pruning.watched_z(model)
    with model.hooks(fwd_hooks=hooks):
        found = pruning.head_importance(model, losses(model, tokens), kept)
    assert (found[1, [0, 2]] == 0).all()
    assert (found[1, [1, 3]] > 0).all()
    assert (model.blocks[1].attn.W_O[[0, 2]] == 0).all()


def test_what_does_not_exist_is_refused(model, tokens):
    with pytest.raises(ValueError, match="share must be at least 0 and below 1"):
        pruning.magnitude(model, 1.0)
    with pytest.raises(ValueError, match="there is no head 4 in layer 0"):
        pruning.prune_heads(model, {0: [4]})
    with pytest.raises(ValueError, match="there is no layer 2"):
        pruning.prune_heads(model, {2: [0]})
    with pytest.raises(ValueError, match="no gradient"):
        pruning.Movement(model).observe(0.1)
    with pytest.raises(ValueError, match="hook_z of layer 0 is missing"):
        pruning.head_importance(model, losses(model, tokens), {})

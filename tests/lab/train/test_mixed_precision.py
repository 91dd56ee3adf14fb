"""Mixed precision: what runs in which dtype, and what happens to S."""

import pytest
import torch
from torch import nn

from microtome.lab import zoo
from microtome.lab.tasks import RepeatedBlock
from microtome.lab.train import TokenPrediction
from microtome.lab.train.mixed_precision import MixedPrecision

TASK = RepeatedBlock(vocab=6, block=4, repeats=3)


def one_weight(dtype=torch.float16, **options):
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    return weight, MixedPrecision(optimizer, "cpu", dtype, **options)


def test_the_scale_cancels_before_clipping():
    weight, mixed = one_weight(clip=1.0, scale=1024.0)
    assert mixed.step((4 * weight).sum())
    # Clipped to norm 1 after unscaling, so that the step is 0.5.
    assert weight.item() == pytest.approx(0.5)
    assert weight.grad.item() == pytest.approx(1.0)


def test_a_gradient_that_is_not_finite_skips_the_step_and_halves_the_scale():
    weight, mixed = one_weight(scale=1024.0)
    assert not mixed.step((weight * torch.inf).sum())
    assert weight.item() == 1.0
    assert mixed.scale == 512.0
    assert mixed.step(weight.sum())
    assert mixed.scale == 512.0


def test_good_steps_in_a_row_double_the_scale():
    weight, mixed = one_weight(scale=4.0, grow_every=3)
    scales = []
    for bad in (False, False, True, False, False, False):
        mixed.step((weight * (torch.inf if bad else 0.1)).sum())
        scales.append(mixed.scale)
    assert scales == [4.0, 4.0, 2.0, 2.0, 2.0, 4.0]


def test_the_published_defaults():
    _, mixed = one_weight()
    assert mixed.scale == 2.0**16
    assert mixed.scaler.get_growth_interval() == 2000
    assert (mixed.scaler.get_growth_factor(), mixed.scaler.get_backoff_factor()) == (2.0, 0.5)


def test_bfloat16_has_no_scale_and_skips_too():
    weight, mixed = one_weight(torch.bfloat16)
    assert mixed.scale == 1.0
    assert not mixed.step((weight * torch.nan).sum())
    assert weight.item() == 1.0
    assert mixed.step(weight.sum())
    assert weight.item() == 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_products_are_half_and_losses_and_weights_float32(dtype, generator):
    model = zoo.sequence(d_vocab=6, d_model=16, n_layers=1, n_heads=2, n_ctx=12).train()
    mixed = MixedPrecision(torch.optim.Adam(model.parameters(), 1e-2), "cpu", dtype, clip=1.0)
    objective = TokenPrediction(TASK, 16)
    batch = objective.batch(0, generator)
    seen = {}
    model.blocks[0].mlp.in_.register_forward_hook(lambda _, given, out: seen.update(product=out.dtype))
    losses = []
    for _ in range(30):
        with mixed.autocast():
            loss = objective.loss(model, batch)
        losses.append(loss.item())
        mixed.step(loss)
    assert seen["product"] == dtype
    assert loss.dtype == torch.float32
    assert all(p.dtype == torch.float32 and p.grad.dtype == torch.float32 for p in model.parameters())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": torch.float64}, "torch.float16 or torch.bfloat16, not torch.float64"),
        ({"clip": 0.0}, "clip must be positive"),
        ({"scale": 0.0}, "scale must be positive"),
        ({"grow_every": 0}, "grow_every at least 1"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        one_weight(**options)


def test_half_precision_weights_are_refused():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1, dtype=torch.float16))], lr=0.1)
    with pytest.raises(ValueError, match="must hold float32 parameters"):
        MixedPrecision(optimizer, "cpu", torch.float16)

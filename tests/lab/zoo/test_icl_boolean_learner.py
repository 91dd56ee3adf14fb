"""The learner of discrete functions (icl_boolean) at its published sizes, and with a frozen backbone."""

import pytest
import torch
from torch import nn

from microtome.lab import zoo
from microtome.lab.bayes import Odds
from microtome.lab.tasks.boolean import Conjunction
from microtome.lab.train import InContextClassification
from microtome.lab.zoo.in_context.icl_boolean import frozen


@pytest.fixture
def small():
    return zoo.build("icl_boolean", n_layers=2, d_model=32, n_heads=4, dim=5, points=16)


def test_published_sizes() -> None:
    """Six layers of 128 with four heads for 150 pairs of 20 bits; the token table of GPT-2 is not counted."""
    model = zoo.build("icl_boolean", "small")
    assert sum(p.numel() for p in model.parameters()) == 1_231_105
    base = zoo.build("icl_boolean")
    assert (base.cfg.n_layers, base.cfg.d_model, base.cfg.n_heads, base.cfg.n_ctx) == (12, 256, 8, 80)


def test_tokens_are_as_wide_as_x(small, generator: torch.Generator) -> None:
    prompt = Conjunction(5).sample(2, 3, generator)
    tokens = small.interleave(prompt.xs, prompt.ys)
    assert tokens.shape == (2, 6, 5)
    assert torch.equal(tokens[:, ::2], prompt.xs)
    assert torch.equal(tokens[:, 1::2, 0], prompt.ys)
    assert (tokens[:, 1::2, 1:] == 0).all()


def test_a_prediction_ignores_its_own_label_and_later_pairs(small, generator: torch.Generator) -> None:
    prompt = Conjunction(5).sample(4, 16, generator)
    before = Odds(small).predict(prompt.xs, prompt.ys).mean
    xs, ys = prompt.xs.clone(), prompt.ys.clone()
    ys[:, 7:] *= -1
    xs[:, 8:] *= -1
    torch.testing.assert_close(Odds(small).predict(xs, ys).mean[:, :8], before[:, :8])


def test_a_frozen_backbone_stays_and_the_rest_learns(small, generator: torch.Generator) -> None:
    """Forty steps on one batch: the loss falls by a fifth at least, with attention and feed-forward untouched."""
    before = {name: p.clone() for name, p in small.named_parameters()}
    model = frozen(small, width=16)
    objective = InContextClassification(Conjunction(5), 16, 8)
    batch = objective.batch(0, generator)
    first = objective.loss(model, batch).item()
    adam = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(40):
        adam.zero_grad()
        objective.loss(model, batch).backward()
        adam.step()
    assert objective.loss(model, batch).item() < 0.8 * first
    moved = {n for n, p in model.named_parameters() if n not in before or not torch.equal(p, before[n])}
    allowed = {
        f"{name}.{which}"
        for name, m in model.named_modules()
        for which, _ in m.named_parameters(recurse=False)
        if isinstance(m, nn.LayerNorm) or name.startswith(("embed", "unembed"))
    }
    assert moved == allowed
    assert all(torch.equal(p, before[name]) for name, p in small.named_parameters())


@pytest.mark.usefixtures("untyped")
def test_a_frozen_backbone_needs_a_width(small) -> None:
    with pytest.raises(ValueError, match="width must be at least 1, not 0"):
        frozen(small, width=0)

"""Checkpointed and reversible depth: the plain result and gradients, and what is kept for the backward pass."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from microtome.lab import zoo
from microtome.lab.zoo.depth import reversible
from microtome.lab.zoo.feedforward import gelu
from microtome.lab.zoo.parts import Context, Position
from microtome.lab.zoo.points import observer
from microtome.lab.zoo.streaming import Stream

SIZES = {"d_vocab": 11, "d_model": 16, "n_heads": 2, "n_ctx": 24}


def build(depth, n_layers=4, **parts):
    return zoo.sequence(depth=depth, n_layers=n_layers, **{**SIZES, **parts}).double().train()


@pytest.fixture
def tokens(generator):
    return torch.randint(11, (2, 24), generator=generator)


def gradients(model, tokens, **options):
    model.zero_grad()
    model(tokens, **options).square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def kept(model, tokens):
    """Numbers that the forward pass keeps for the backward pass, parameters aside."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    sizes = {}

    def pack(tensor):
        place = tensor.untyped_storage().data_ptr()
        if place not in own:
            sizes[place] = tensor.untyped_storage().nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = model(tokens)  # kept alive, so that no storage is used twice
    return sum(sizes.values()) + 0 * out.numel()


def compare(a, b):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=1e-9, rtol=1e-7, msg=name)


@pytest.mark.parametrize("parts", [{}, {"mixer": "urpe", "position": "relative"}, {"position": "rope"}], ids=str)
@pytest.mark.parametrize("segments", [None, 1, 3, 9])
def test_checkpointed_depth_is_plain_depth(parts, segments, tokens):
    plain = build("plain", **parts)
    checkpointed = build({"name": "checkpointed", "segments": segments}, **parts)
    assert torch.equal(plain(tokens), checkpointed(tokens))
    compare(gradients(plain, tokens), gradients(checkpointed, tokens))


@pytest.mark.parametrize(
    "parts",
    [{}, {"mixer": "urpe", "position": "relative"}, {"mixer": "linear_attention"}, {"norm": "none"}],
    ids=str,
)
def test_reversible_gradients_are_those_of_keeping_everything(parts, tokens):
    """A hook that looks makes the blocks keep everything, which is autograd's own gradient."""
    model = build("reversible", **parts)
    mask = torch.ones(2, 24, dtype=torch.bool)
    mask[0, 20:] = False
    rebuilt = gradients(model, tokens, mask=mask)
    with model.hooks(fwd_hooks=[("blocks.0.hook_resid_pre", observer(lambda t, hook: None))]):
        everything = gradients(model, tokens, mask=mask)
    compare(rebuilt, everything)


def test_reversible_blocks_have_an_inverse(generator):
    model = build("reversible", n_layers=24, position="none").float()
    context = Context(Position(), 24)
    x1, x2 = (torch.randn(2, 24, 16, generator=generator) for _ in range(2))
    y1, y2 = x1, x2
    with torch.no_grad():
        for block in model.blocks:
            y1, y2 = reversible.forward(block, y1, y2, context)
        assert (y1 - x1).abs().max() > 0.1
        for block in reversed(model.blocks):
            y1, y2 = reversible.inverse(block, y1, y2, context)
    torch.testing.assert_close(y1, x1, atol=1e-5, rtol=0)
    torch.testing.assert_close(y2, x2, atol=1e-5, rtol=0)


def test_what_is_kept_grows_as_the_policies_say(tokens):
    """Linearly in depth for plain, hardly for reversible, and far below plain for checkpointed."""
    found = {
        depth: [kept(build(depth, n_layers=n), tokens) for n in (4, 16)]
        for depth in ("plain", "checkpointed", "reversible")
    }
    assert found["plain"][1] > 3.5 * found["plain"][0]
    assert found["reversible"][1] == found["reversible"][0]
    assert found["checkpointed"][1] < 2.5 * found["checkpointed"][0]
    assert found["checkpointed"][1] < found["plain"][1] / 4


@dataclass(frozen=True)
class Dropping(gelu.Part):
    """A feed-forward with dropout behind it."""

    def build(self, shape):
        mlp = super().build(shape)
        mlp.out = nn.Sequential(mlp.out, nn.Dropout(0.5))
        return mlp


@pytest.mark.global_rng
@pytest.mark.parametrize("depth", ["checkpointed", "reversible"])
def test_dropout_repeats_itself_in_the_backward_pass(depth, tokens):
    model = build(depth, feedforward=Dropping())
    look = [("blocks.0.hook_resid_pre", observer(lambda t, hook: None))]
    torch.manual_seed(0)
    rebuilt = gradients(model, tokens)
    torch.manual_seed(0)
    with model.hooks(fwd_hooks=look):
        everything = gradients(model, tokens)
    compare(rebuilt, everything)


@pytest.mark.parametrize("depth", ["checkpointed", "reversible"])
def test_blocks_that_change_their_state_are_refused(depth, tokens):
    model = build(depth)
    model.blocks[1].register_buffer("count", torch.zeros(()))

    def count(*_):
        model.blocks[1].count += 1

    model.blocks[1].mlp.register_forward_hook(count)
    with pytest.raises(ValueError, match="changes its state 'count'"):
        model(tokens)


@pytest.mark.parametrize("parts", [{"feedforward": "none"}, {"norm": {"name": "layernorm", "placement": "post"}}])
def test_blocks_that_cannot_be_inverted_are_refused(parts):
    with pytest.raises(ValueError, match="needs a feed-forward, and a norm placed 'pre' or 'none'"):
        build("reversible", **parts)


def test_two_streams_have_no_step():
    with pytest.raises(ValueError, match="does not pass the blocks one after the other"):
        Stream(build("reversible"))


def test_no_segment_is_refused():
    with pytest.raises(ValueError, match="segments must be at least 1, not 0"):
        build({"name": "checkpointed", "segments": 0})

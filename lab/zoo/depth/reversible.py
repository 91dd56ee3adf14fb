"""Reversible depth (Gomez et al. 2017, "The reversible residual network"; Kitaev et al. 2020, "Reformer").

    y₁ = x₁ + F(x₂),  y₂ = x₂ + G(y₁);     x₂ = y₂ − G(y₁),  x₁ = y₁ − F(x₂)

with F = mixer ∘ norm and G = feed-forward ∘ norm of a block. Both streams begin as the embedding and end in their mean.
The backward pass makes each block's inputs from its outputs, so that what is kept does not depend on depth; the
generator's state is put back for each, so that dropout repeats itself. Where a hook watches a block everything is kept.

A block's `hook_resid_pre` carries x₂, `hook_resid_mid` y₁ and `hook_resid_post` y₂: the stream is two, and its points
do not add up as in plain depth.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import get_device_states, set_device_states

from microtome.lab.zoo.block import AdditiveBlock
from microtome.lab.zoo.depth._recompute import state_kept, watched
from microtome.lab.zoo.parts import Context, DepthPart, MixerPart

Stream = Float[Tensor, "batch pos d_model"]


@dataclass(frozen=True)
class Part(DepthPart):
    """No options. Needs a norm before each sub-layer, or none, and a feed-forward."""

    sequential: ClassVar[bool] = False

    def blocks(self, make_block: Callable[[MixerPart], nn.Module], mixers: Sequence[MixerPart]) -> list[nn.Module]:
        blocks = super().blocks(make_block, mixers)
        for block in blocks:
            if not isinstance(block, AdditiveBlock) or block.mlp is None:
                raise ValueError("depth 'reversible' needs a feed-forward, and a norm placed 'pre' or 'none'.")
        return blocks

    def through(self, blocks: Iterable[nn.Module], x: Stream, context: Context) -> Stream:
        blocks = list(blocks)
        if not torch.is_grad_enabled() or watched(blocks):
            x1 = x2 = x
            for block in blocks:
                x1, x2 = forward(block, x1, x2, context)
            return (x1 + x2) / 2
        with state_kept(blocks):
            y1, y2 = _Reversible.apply(blocks, context, x, x, context.bias, *_trained(blocks, context))
        return (y1 + y2) / 2


def forward(block: AdditiveBlock, x1: Stream, x2: Stream, context: Context) -> tuple[Stream, Stream]:
    """(y₁, y₂) of (x₁, x₂)."""
    y1 = block.hook_resid_mid(x1 + _mix(block, block.hook_resid_pre(x2), context))
    return y1, block.hook_resid_post(x2 + _feed(block, y1))


def inverse(block: AdditiveBlock, y1: Stream, y2: Stream, context: Context) -> tuple[Stream, Stream]:
    """(x₁, x₂) of (y₁, y₂)."""
    x2 = y2 - _feed(block, y1)
    return y1 - _mix(block, x2, context), x2


def _mix(block: AdditiveBlock, x: Stream, context: Context) -> Stream:
    """F."""
    return block.hook_attn_out(block.mixing(block.ln1(x), context))


def _feed(block: AdditiveBlock, x: Stream) -> Stream:
    """G."""
    return block.hook_mlp_out(block.mlp(block.ln2(x)))


def _trained(blocks: Sequence[nn.Module], context: Context) -> list[nn.Parameter]:
    modules = [*blocks, *([] if context.shared is None else [context.shared])]
    return [p for p in dict.fromkeys(p for module in modules for p in module.parameters()) if p.requires_grad]


class _Random:
    """The state of torch's generators, on the CPU and where x lies, to be put back around a second run."""

    def __init__(self, x: Tensor):
        self.cpu, (self.devices, self.states) = torch.get_rng_state(), get_device_states(x)

    def replayed(self, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with torch.random.fork_rng(self.devices):
            torch.set_rng_state(self.cpu)
            set_device_states(self.devices, self.states)
            return run(x)


class _Reversible(torch.autograd.Function):
    """All blocks; keeps the last outputs, and nothing of what lies between."""

    @staticmethod
    def forward(ctx, blocks, context: Context, x1: Stream, x2: Stream, bias, *parameters):
        ctx.blocks, ctx.context, ctx.states = blocks, context, []
        for block in blocks:
            before_mixer = _Random(x1)
            y1 = x1 + _mix(block, x2, context)
            ctx.states.append((before_mixer, _Random(x1)))
            x1, x2 = y1, x2 + _feed(block, y1)
        ctx.save_for_backward(x1, x2, bias, *parameters)
        return x1, x2

    @staticmethod
    @once_differentiable
    def backward(ctx, d1: Stream, d2: Stream):
        y1, y2, bias, *parameters = ctx.saved_tensors
        sums = _Sums(parameters, bias)
        context = replace(ctx.context, bias=sums.bias)
        for block, (before_mixer, before_feed) in zip(reversed(ctx.blocks), reversed(ctx.states), strict=True):
            g, grad = sums.run(lambda x, b=block: _feed(b, x), before_feed, y1, d2)
            d1, x2 = d1 + grad, y2 - g
            f, grad = sums.run(lambda x, b=block: _mix(b, x, context), before_mixer, x2, d1)
            d2, y1, y2 = d2 + grad, y1 - f, x2
        return None, None, d1, d2, *sums.gradients()


class _Sums:
    """Gradients of what the blocks share with each other or own, added up as they are met."""

    def __init__(self, parameters: Sequence[Tensor], bias: Tensor | None):
        wants_bias = bias is not None and bias.requires_grad
        self.bias = bias.detach().requires_grad_() if wants_bias else bias
        self.wanted = [*([self.bias] if wants_bias else []), *parameters]
        self.found: list[Tensor | None] = [None] * len(self.wanted)
        self.head = () if wants_bias else (None,)

    def run(self, module: Callable[[Tensor], Tensor], random: _Random, x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
        """What the module makes of x, and the gradient to x of dy on it."""
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            y = random.replayed(module, x)
        dx, *gradients = torch.autograd.grad(y, [x, *self.wanted], dy, allow_unused=True)
        for i, gradient in enumerate(gradients):
            if gradient is not None:
                self.found[i] = gradient if self.found[i] is None else self.found[i] + gradient
        return y.detach(), torch.zeros_like(x) if dx is None else dx

    def gradients(self) -> tuple[Tensor | None, ...]:
        return *self.head, *self.found

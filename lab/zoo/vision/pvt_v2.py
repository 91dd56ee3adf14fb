"""PVTv2 (Wang et al. 2022, "PVT v2: Improved baselines with Pyramid Vision Transformer") without spatial reduction.

Four stages of pre-norm blocks, between which overlapping patches halve the grid, with feed-forwards whose depthwise
convolution tells positions apart.

Each stage takes a mixer of the zoo of its own; blocks are numbered through, with the points of `block.py`. Keys and
values are not shrunk, so that a mixer sees all (image_size/4)² positions of the first stage.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.block import AdditiveBlock
from microtome.lab.zoo.config import Init, Spec
from microtome.lab.zoo.contract import HookedModel
from microtome.lab.zoo.depth import plain
from microtome.lab.zoo.feedforward._mlp import MLP
from microtome.lab.zoo.norms import layernorm
from microtome.lab.zoo.parts import Context, FeedForwardPart, Mixer, MixerPart, Shape
from microtome.lab.zoo.points import Point
from microtome.lab.zoo.positions import none

STRIDE = 32
"""Of the last stage: 4 · 2 · 2 · 2."""


@dataclass(frozen=True)
class Sizes:
    """A published size, stage by stage: widths, heads, blocks, and hidden widths of the feed-forward in widths."""

    widths: tuple[int, ...]
    heads: tuple[int, ...] = (1, 2, 5, 8)
    depths: tuple[int, ...] = (2, 2, 2, 2)
    ratios: tuple[int, ...] = (8, 8, 4, 4)


B0, B1 = Sizes((32, 64, 160, 256)), Sizes((64, 128, 320, 512))


class ConvMLP(MLP):
    """Linear, depthwise 3 × 3 convolution over the grid, GELU, linear. `hook_pre` follows the convolution."""

    def __init__(self, shape: Shape, d_mlp: int, side: int):
        super().__init__(shape, d_mlp, F.gelu, bias=True)
        self.side = side
        self.conv = nn.Conv2d(d_mlp, d_mlp, 3, padding=1, groups=d_mlp)

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        grid = self.in_(x).transpose(1, 2).unflatten(2, (self.side, self.side))
        hidden = self.conv(grid).flatten(2).transpose(1, 2)
        return self.out(self.hook_post(self.act(self.hook_pre(hidden))))


@dataclass(frozen=True)
class ConvMLPPart(FeedForwardPart):
    """`ratio` times d_model hidden channels, on a square grid of `side`² positions."""

    pointwise = False

    ratio: int
    side: int

    def build(self, shape: Shape) -> ConvMLP:
        return ConvMLP(shape, self.ratio * shape.d_model, self.side)


class PatchEmbed(nn.Module):
    """Overlapping patches: a convolution whose kernel is wider than its stride, and a LayerNorm."""

    def __init__(self, channels: int, d_model: int, kernel: int, stride: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, d_model, kernel, stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch pos d_model"]:
        return self.norm(self.conv(images).flatten(2).transpose(1, 2))


class PyramidModel(HookedModel):
    """A pyramid vision transformer; `stage_of[i]` is the stage of block i, from 0.

    Args:
        sizes: widths, heads and depths.
        mixers: the mixer of each stage.
        image_size: side of the square images, a multiple of 32.
        n_classes: width of the readout.
        seed: of the parameters; the default generator is left as it was.

    Raises:
        ValueError: for an image size that 32 does not divide, or another number of mixers than stages.
    """

    def __init__(
        self,
        sizes: Sizes,
        mixers: tuple[MixerPart, ...],
        *,
        image_size: int = 224,
        n_classes: int = 1000,
        seed: int = 0,
    ):
        super().__init__()
        if image_size < STRIDE or image_size % STRIDE:
            raise ValueError(f"image_size must be a multiple of {STRIDE}, not {image_size}.")
        if len(mixers) != len(sizes.widths):
            raise ValueError(f"a pyramid of {len(sizes.widths)} stages needs as many mixers, not {len(mixers)}.")
        self.image_size, self.sizes = image_size, sizes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build(mixers, n_classes, seed)
            _start(self)
        self.setup()
        self.eval()

    def _build(self, mixers: tuple[MixerPart, ...], n_classes: int, seed: int) -> None:
        sizes, channels = self.sizes, 3
        self.embeds, self.norms, blocks, self.stage_of = nn.ModuleList(), nn.ModuleList(), [], []
        for stage, (width, heads, depth) in enumerate(zip(sizes.widths, sizes.heads, sizes.depths, strict=True)):
            self.embeds.append(PatchEmbed(channels, width, *((7, 4) if stage == 0 else (3, 2))))
            side = self.image_size // (4 * 2**stage)
            spec = Spec(
                shape=Shape(width, depth, heads, side**2, causal=False),
                stem=None,
                mixer=mixers[stage],
                position=none.Part(),
                norm=layernorm.Part(eps=1e-6),
                feedforward=ConvMLPPart(sizes.ratios[stage], side),
                depth=plain.Part(),
                init=Init(),
                seed=seed,
            )
            blocks += [AdditiveBlock(spec, mixers[stage]) for _ in range(depth)]
            self.stage_of += [stage] * depth
            self.norms.append(nn.LayerNorm(width, eps=1e-6))
            channels = width
        self.blocks = nn.ModuleList(blocks)
        self.position = none.Part().build(spec.shape)
        self.hook_pooled = Point("batch d_model", "hidden")
        self.unembed = nn.Linear(channels, n_classes)

    def mixers(self) -> list[Mixer]:
        """The token mixer of each block."""
        return [block.mixing for block in self.blocks]

    def absent(self) -> Mapping[str, str]:
        return {
            f"blocks.{i}.{block.slot}.{name}": why
            for i, block in enumerate(self.blocks)
            for name, why in block.mixing.absent.items()
        }

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch out"]:
        """Class logits. Raises ValueError for images of another size."""
        if list(images.shape[1:]) != [3, self.image_size, self.image_size] or not len(images):
            raise ValueError(
                f"images must be [batch, 3, {self.image_size}, {self.image_size}], not {list(images.shape)}."
            )
        x = images
        for stage, (embed, norm) in enumerate(zip(self.embeds, self.norms, strict=True)):
            x = embed(x)
            context = Context(self.position, x.shape[1])
            for block, of in zip(self.blocks, self.stage_of, strict=True):
                x = block(x, context) if of == stage else x
            x = norm(x)
            if stage + 1 < len(self.norms):
                side = math.isqrt(x.shape[1])
                x = x.transpose(1, 2).unflatten(2, (side, side))
        return self.unembed(self.hook_pooled(x.mean(1)))


def _start(model: nn.Module) -> None:
    """Linear maps N(0, 0.02²) cut at two deviations, convolutions N(0, 2/fan_out), biases zero, as published."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
        elif isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] ** 2 * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)

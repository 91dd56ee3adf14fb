"""The whole systems of "LMUFormer: Low Complexity Yet Powerful Spiking Model With Legendre Memory Units" (Liu et al.
2024, slug `lmuformer`).

`speech_commands` (SCv2, 1,621,796 parameters) and its spiking version: one block without LayerNorm between the
convolutional embedding and the mean-pooled head, on 128 frames of 128 spectrogram bands. `psmnist`: the Legendre memory
alone on 784 pixels in a permuted order. `lmuformer_stream.FrameStream` reads the first two frame by frame.
"""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.compose import sequence
from microtome.lab.zoo.config import Init
from microtome.lab.zoo.contract import HookedModel
from microtome.lab.zoo.mixers.lmuformer import LegendreMemory
from microtome.lab.zoo.norms._batch import BatchNorm
from microtome.lab.zoo.points import Point
from microtome.lab.zoo.stems.lmuformer import FrameModel


def lmuformer(
    *,
    dim: int = 128,
    n_classes: int = 35,
    d_model: int = 256,
    d_memory: int = 256,
    n_ctx: int = 128,
    n_layers: int = 1,
    spiking: bool = False,
    seed: int = 0,
) -> FrameModel:
    """An LMUFormer; θ is the longest input `n_ctx`, and linear weights start as N(0, 0.02²) cut off at 2σ."""
    kind = "spiking_" if spiking else ""
    return sequence(
        stem={"name": "lmuformer", "dim": dim, "n_classes": n_classes, "spiking": spiking},
        mixer={"name": f"{kind}lmuformer", "d_memory": d_memory},
        feedforward=f"{kind}conv_mixer",
        position="none",
        norm="none",
        init=Init("truncated", std=0.02),
        d_model=d_model,
        n_layers=n_layers,
        n_heads=1,
        n_ctx=n_ctx,
        causal=True,
        seed=seed,
    )


class PixelMemory(HookedModel):
    """The feed-forward Legendre memory alone: pixels one after the other, the mean of h, a linear readout.

    Args:
        d_memory, d_hidden, theta: sizes of the memory, of h, and of the window, which is the input's length too.
        n_classes: classes.
        dropout: of the mean of h.
        seed: of the parameters; the default generator is left as it was.
    """

    def __init__(
        self,
        d_memory: int = 468,
        d_hidden: int = 346,
        theta: int = 784,
        n_classes: int = 10,
        dropout: float = 0.4,
        seed: int = 0,
    ):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embed, self.bn = nn.Linear(1, 3), BatchNorm(3)  # a convolution of width one
            self.u, self.h = nn.Linear(3, 1), nn.Linear(d_memory + 3, d_hidden)
            self.unembed = nn.Linear(d_hidden, n_classes)
        self.memory = LegendreMemory(d_memory, float(theta), theta)
        self.dropout, self.length = nn.Dropout(dropout), theta
        self.hook_embed = Point("batch pos channel", "write")
        self.hook_memory = Point("batch pos state", "state")
        self.hook_hidden = Point("batch pos d_hidden", "hidden")
        self.setup()
        self.eval()

    def forward(self, pixels: Float[Tensor, "batch pos"]) -> Float[Tensor, "batch n_classes"]:
        """Logits. Raises ValueError for an input that is empty or longer than θ."""
        if pixels.ndim != 2 or not 1 <= pixels.shape[1] <= self.length or len(pixels) == 0:
            raise ValueError(f"pixels must be [batch pos] with 1 … {self.length} positions, not {list(pixels.shape)}.")
        x = self.hook_embed(self.bn(self.embed(pixels[..., None])))
        m = self.hook_memory(self.memory(torch.relu(self.u(x))[..., 0]))
        h = self.hook_hidden(torch.relu(self.h(torch.cat([m, x], dim=-1))))
        return self.unembed(self.dropout(h.mean(1)))


VARIANTS = {
    "speech_commands": lmuformer,
    "speech_commands_spiking": partial(lmuformer, d_memory=512, spiking=True),
    "psmnist": PixelMemory,
}

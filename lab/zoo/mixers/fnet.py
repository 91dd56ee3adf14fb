"""FNet (Lee-Thorp et al. 2022, "FNet: Mixing tokens with Fourier transforms"): nothing is learned.

    Y = Re(F^s X F^h),   F^s [pos pos] and F^h [d_model d_model] the unnormalised Fourier matrices e^{−2πi jk/N}

The real part is taken after both transforms. With F = C − iS it is C^s(X C^h) − S^s(X S^h): two heads, the cosines
and the negative sines over positions, each as wide as the stream, whose values are the stream's cosine and sine
transforms and whose outputs are added. `long_sequence_unified` (2023) has it as the template's fixed row.

The transform over positions is as long as the input; an example with padding is transformed over its real positions.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from microtome.lab.zoo.mixers._static import Heads, Matrix, StaticMixer, Stream
from microtome.lab.zoo.parts import Context, MixerPart, Shape
from microtome.lab.zoo.template import Template


class FNetMixer(StaticMixer):
    """Fourier transforms of one layer; no parameters."""

    W_O = property(lambda self: None, doc="there is no output map")
    b_O = property(lambda self: None, doc="there is no output map")

    def __init__(self, shape: Shape):
        super().__init__(n_heads=2, d_head=shape.d_model)

    def _project(self, x: Stream) -> Heads:
        """X C^h and X S^h."""
        transformed = torch.fft.fft(x, dim=-1)
        return torch.stack([transformed.real, -transformed.imag], dim=2)

    def _mix(self, v: Heads, context: Context) -> Heads:
        if context.mask is None:
            return _transform(v)
        z = torch.zeros_like(v)
        for example, real in _by_length(context.mask):
            z[example, real] = _transform(v[example, real])
        return z

    def _matrix(self, v: Heads, context: Context) -> Matrix:
        batch, n = v.shape[:2]
        matrix = v.new_zeros(batch, 2, n, n)
        for example, real in _by_length(context.real(v)):
            size = real.shape[1]
            steps = torch.arange(size, device=v.device)
            angle = torch.outer(steps, steps).remainder(size).to(v.dtype) * (2 * torch.pi / size)
            waves = torch.stack([angle.cos(), -angle.sin()])
            heads = torch.arange(2, device=v.device)
            matrix[example[:, :, None, None], heads[:, None, None], real[:, None, :, None], real[:, None, None, :]] = (
                waves
            )
        return matrix

    def _write(self, z: Heads, x: Stream) -> Stream:
        return z.sum(2)


def _transform(v: Heads) -> Heads:
    """C^s of the first head and −S^s of the second."""
    transformed = torch.fft.fft(v, dim=1)
    return torch.stack([transformed[:, :, 0].real, transformed[:, :, 1].imag], dim=2)


def _by_length(mask: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Examples with equally many real positions, [example 1], beside these positions, [example real]; none without."""
    counts = mask.sum(1)
    groups = []
    for size in counts.unique().tolist():
        if size:
            examples = (counts == size).nonzero()
            groups.append((examples, mask[examples[:, 0]].nonzero()[:, 1].view(len(examples), size)))
    return groups


@dataclass(frozen=True)
class Part(MixerPart):
    """No options."""

    bidirectional_only: ClassVar = True
    template: ClassVar = Template(
        matrix="Re(F^s X F^h): cos(2πij/n), −sin(2πij/n)",
        depends="nothing",
        structure="Vandermonde (Fourier)",
        cost="n·log n·d",
    )

    def build(self, shape: Shape) -> FNetMixer:
        return FNetMixer(shape)

"""Mixed attention spans (Zhang et al. 2023, "Efficient Long-Range Transformers: You Need to Attend More, but Not
Necessarily at Every Layer", slug `masformer`): a few layers attend to everything, the others within a short span.

A sparse layer has the parameters of a full one under the same names, so that a full model is converted by its policy
alone (`compression.masformer`). In visible pairs, with ρ those of a sparse layer over those of a full one, the whole
costs (ℓ + (n − ℓ)ρ)/n of n full layers; ρ = (b+1)/(N+1) for own blocks that divide N.
"""

from dataclasses import dataclass, fields
from fractions import Fraction

from microtome.lab.zoo.mixers import masformer, softmax
from microtome.lab.zoo.mixers.masformer import Pattern, Span, triangle
from microtome.lab.zoo.parts import DepthPart, MixerPart

PLACEMENTS = ("bottom", "middle", "top", "even")


@dataclass(frozen=True)
class Part(DepthPart):
    """Which layers are full, and the span of the others.

    Attributes:
        full: where the full layers stand: `bottom`, `middle` and `top` as one group, `even` spread out, or their
            indices from 0.
        n_full: ℓ, how many there are; left alone where `full` lists them.
        pattern, span: what the other layers see, as the mixer `masformer` has it.
    """

    full: str | tuple[int, ...] = "middle"
    n_full: int = 1
    pattern: Pattern = "block"
    span: int = 64

    def mixers(self, mixer: MixerPart, n_layers: int) -> list[MixerPart]:
        """Raises ValueError for another mixer than softmax attention, or layers that are not there."""
        if type(mixer) is not softmax.Part:
            raise ValueError("depth 'masformer' shortens the span of mixer 'softmax', not of another.")
        full = self.layers(n_layers)
        options = {f.name: getattr(mixer, f.name) for f in fields(mixer)}
        sparse = masformer.Part(**options, pattern=self.pattern, span=self.span)
        return [mixer if i in full else sparse for i in range(n_layers)]

    def layers(self, n_layers: int) -> frozenset[int]:
        """The indices of the full layers.

        Raises:
            ValueError: for an unknown placement, or layers that are not there.
        """
        if not isinstance(self.full, str):
            outside = [i for i in self.full if not 0 <= i < n_layers]
            if outside:
                raise ValueError(f"there is no layer {outside[0]} to be full; layers are 0 … {n_layers - 1}.")
            return frozenset(self.full)
        if self.full not in PLACEMENTS:
            raise ValueError(f"full layers stand at {', '.join(PLACEMENTS)}, or are listed, not {self.full!r}.")
        if not 0 <= self.n_full <= n_layers:
            raise ValueError(f"n_full must lie between 0 and {n_layers}, the number of layers, not {self.n_full}.")
        rest = n_layers - self.n_full
        start = {"bottom": 0, "middle": (rest + 1) // 2, "top": rest}
        if self.full == "even":
            return frozenset((2 * k + 1) * n_layers // (2 * self.n_full) for k in range(self.n_full))
        return frozenset(range(start[self.full], start[self.full] + self.n_full))

    def pairs(self, n_layers: int, n: int) -> int:
        """Visible pairs of all layers over n positions, causal."""
        n_full = len(self.layers(n_layers))
        return n_full * triangle(n) + (n_layers - n_full) * Span(self.pattern, self.span).pairs(n)

    def fraction(self, n_layers: int, n: int) -> Fraction:
        """f: the visible pairs over those of as many full layers."""
        return Fraction(self.pairs(n_layers, n), n_layers * triangle(n))

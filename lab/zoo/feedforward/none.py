"""No feed-forward: attention-only blocks, which write x + mixer(x) alone."""

from dataclasses import dataclass

from microtome.lab.zoo.parts import FeedForwardPart, Shape


@dataclass(frozen=True)
class Part(FeedForwardPart):
    """No options."""

    def build(self, shape: Shape) -> None:
        return None

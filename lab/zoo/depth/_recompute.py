"""What depth policies share that run a block again in the backward pass, instead of keeping what it made."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from microtome.lab.zoo.points import Point


def watched(blocks: Sequence[nn.Module]) -> bool:
    """Whether any hook looks at these blocks: it would see every tensor twice, and the first time without gradient."""
    return any(isinstance(m, Point) and m.watched for block in blocks for m in block.modules())


@contextmanager
def state_kept(blocks: Sequence[nn.Module]) -> Iterator[None]:
    """Refuses blocks that change their own state inside.

    Raises:
        ValueError: if a buffer was written to, so that a second run would not give what the first gave.
    """
    buffers = [(name, buffer) for block in blocks for name, buffer in block.named_buffers()]
    before = [buffer._version for _, buffer in buffers]
    yield
    for (name, buffer), version in zip(buffers, before, strict=True):
        if buffer._version != version:
            raise ValueError(
                f"a block changes its state {name!r} when it runs, so that it cannot be run again in the backward "
                "pass; use depth 'plain'."
            )

"""How a sequence is shared out, and what then has to be moved.

Forward, each block of keys and values makes P − 1 hops: 2(P−1)·L·D words over all workers. Backward it makes them
again, and the gradients of its keys and values follow one hop behind: they start at the first worker that the block
visits and end at home, P − 1 hops: 4(P−1)·L·D words. D counts the features of all heads and examples.
"""

from dataclasses import dataclass, field

from torch import Tensor


def shares(length: int, workers: int) -> tuple[int, ...]:
    """How many rows each worker holds: length/workers, and one more for the first few where that is not whole.

    Raises:
        ValueError: for a negative length or less than one worker.
    """
    if length < 0 or workers < 1:
        raise ValueError(f"a sequence of at least 0 rows goes to at least 1 worker, not {length} rows to {workers}.")
    whole, over = divmod(length, workers)
    return tuple(whole + (p < over) for p in range(workers))


def words_moved(workers: int, length: int, width: int, *, backward: bool = False) -> int:
    """What all workers together send, in words: 2(P−1)·L·D forward, 4(P−1)·L·D backward.

    Args:
        workers: P.
        length: L.
        width: D, the features of a row over all heads and examples.
        backward: of the backward pass.
    """
    return (4 if backward else 2) * (workers - 1) * length * width


@dataclass
class Sent:
    """What has been sent: numbers, entries of masks (one for each key and example), and the bytes of both."""

    words: int = 0
    mask_entries: int = 0
    bytes: int = 0

    def count(self, tensor: Tensor) -> None:
        if tensor.is_floating_point():
            self.words += tensor.numel()
        else:
            self.mask_entries += tensor.numel()
        self.bytes += tensor.numel() * tensor.element_size()


@dataclass
class Traffic:
    """What has been sent in forward and in backward passes."""

    forward: Sent = field(default_factory=Sent)
    backward: Sent = field(default_factory=Sent)

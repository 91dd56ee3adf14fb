"""What one worker does, whoever carries its messages.

A worker is a generator. It yields the tensors that go to the next worker together with empty ones for what comes from
the one before, and is sent a function in return; calling it waits for them. So the transfer runs while it computes.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from microtome.kernels.long_sequence_unified.tiles import (
    Block,
    Done,
    Keys,
    Row,
    Rows,
    Rules,
    Running,
    accumulator,
    begin,
    finish,
    fold,
    fold_back,
)

Result = TypeVar("Result")


class Exchange(NamedTuple):
    """Tensors for the next worker, and empty ones for those of the worker before."""

    outgoing: tuple[Tensor, ...]
    incoming: tuple[Tensor, ...]


Worker = Generator[Exchange, Callable[[], None], Result]
Fold = Callable[[Running, Rows, int, Block, Rules], None]


@dataclass(frozen=True)
class Place:
    """A worker's place in the ring: its number, and how many rows each of the workers holds."""

    rank: int
    sizes: tuple[int, ...]

    @property
    def workers(self) -> int:
        return len(self.sizes)

    def owner(self, hop: int) -> int:
        """Whose block is here after so many hops."""
        return (self.rank - hop) % self.workers

    def start(self, worker: int) -> int:
        """The position of a worker's first row."""
        return sum(self.sizes[:worker])


def forward(
    place: Place, rules: Rules, q: Rows, k: Keys, v: Keys, mask: Tensor | None, fold: Fold = fold
) -> Worker[tuple[Rows, Row]]:
    """z and lse of the worker's rows, in the dtype that sums are made in."""
    running, held = begin(q), _contiguous(k, v, mask)
    for hop in range(place.workers):
        wait, arriving = None, held
        if hop < place.workers - 1:
            arriving = _empty_like(held, place.sizes[place.owner(hop + 1)])
            wait = yield Exchange(held, arriving)
        fold(running, q, place.start(place.rank), _block(place, hop, held), rules)
        if wait is not None:
            wait()
        held = arriving
    return finish(running)


def backward(place: Place, rules: Rules, saved: Sequence[Tensor | None], dz: Rows) -> Worker[tuple[Rows, Keys, Keys]]:
    """(dq, dk, dv) of the worker's rows, given (q, k, v, mask, z, lse) of its forward pass."""
    q, k, v, mask, z, lse = saved
    wide = accumulator(q.dtype)
    done = Done(q, dz.to(wide), lse, (dz.to(wide) * z).sum(-1))
    dq = torch.zeros(q.shape, dtype=wide, device=q.device)
    held, coming, wait_gradients = _contiguous(k, v, mask), (), None
    for hop in range(place.workers):
        wait_keys, arriving = None, held
        if hop < place.workers - 1:
            arriving = _empty_like(held, place.sizes[place.owner(hop + 1)])
            wait_keys = yield Exchange(held, arriving)
        shares = fold_back(dq, done, place.start(place.rank), _block(place, hop, held), rules)
        if hop == 0:
            own = shares
        else:
            if wait_gradients is not None:
                wait_gradients()
                shares = _sum(shares, coming)
            coming = _empty_like(shares, place.sizes[place.owner(hop + 1)])
            wait_gradients = yield Exchange(shares, coming)
        if wait_keys is not None:
            wait_keys()
        held = arriving
    if wait_gradients is not None:
        wait_gradients()
        own = _sum(own, coming)
    return dq, *own


def _sum(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def _block(place: Place, hop: int, held: tuple[Tensor, ...]) -> Block:
    k, v, *mask = held
    return Block(k, v, mask[0] if mask else None, place.start(place.owner(hop)))


def _contiguous(k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
    given = (k, v) if mask is None else (k, v, mask)
    return tuple(x.detach().contiguous() for x in given)


def _empty_like(tensors: tuple[Tensor, ...], rows: int) -> tuple[Tensor, ...]:
    """Room for the same kinds of tensors of a worker with so many rows; a mask's rows are its last axis."""
    shapes = [(*x.shape[:2], rows, x.shape[3]) if x.ndim == 4 else (x.shape[0], rows) for x in tensors]
    return tuple(x.new_empty(shape) for x, shape in zip(tensors, shapes, strict=True))

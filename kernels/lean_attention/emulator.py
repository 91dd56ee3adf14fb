"""The thread blocks of the GPU kernel, run on the CPU one step at a time: same tiles, same triples, same waits.

A CTA runs until it must wait for another's flag. `resident` says how many may have begun and not ended, as a GPU has
room for so many, and `order` in which sequence they are launched. Whether a launch can hang, and that the result
depends on neither, is then a matter of running it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from microtome.kernels.lean_attention import triple
from microtome.kernels.lean_attention.schedule import ROWS, Schedule, Segment
from microtome.kernels.lean_attention.triple import Triple


class Deadlock(RuntimeError):
    """Every resident CTA waits for one that was not launched."""


def row_blocks(heads: int, kv_heads: int) -> list[tuple[int, slice]]:
    """The key-value head and the query heads of each group of rows: a group's heads, ROWS at most."""
    group = heads // kv_heads
    starts = [(h, h * group + r) for h in range(kv_heads) for r in range(0, group, ROWS)]
    return [(h, slice(first, min(first + ROWS, (h + 1) * group))) for h, first in starts]


@dataclass
class _Machine:
    """What the CTAs share: the inputs, the output and a scratch slot each, whose being filled is its flag."""

    q: Tensor
    k: Tensor
    v: Tensor
    lengths: Sequence[int]
    tile: int
    scale: float
    schedule: Schedule
    z: Tensor = field(init=False)
    scratch: dict[int, Triple] = field(default_factory=dict)

    def __post_init__(self):
        self.z = torch.zeros_like(self.q)
        self.rows = row_blocks(self.q.shape[1], self.k.shape[1])

    def run(self, cta: int) -> Iterator[None]:
        """One CTA; yields while it waits."""
        for segment in self.schedule.segments(cta):
            found = self.walk(segment)
            if not segment.host:
                self.scratch[cta] = found
                continue
            behind, missing = cta + 1, segment.tiles - segment.stop
            while missing > 0:
                while behind not in self.scratch:
                    yield
                found = triple.merge(found, self.scratch[behind])
                missing -= len(self.schedule.span(behind))
                behind += 1
            self.z[self.place(segment)[0]] = triple.finish(found)

    def place(self, segment: Segment) -> tuple[tuple[int, slice], int, int]:
        """Where the segment's rows lie in q and z, the sequence and the key-value head."""
        head, sequence = divmod(segment.output, len(self.lengths))
        kv_head, rows = self.rows[head]
        return (sequence, rows), sequence, kv_head

    def walk(self, segment: Segment) -> Triple:
        """The segment's triple, LeanTile by LeanTile."""
        where, sequence, kv_head = self.place(segment)
        q, end = self.q[where], self.lengths[sequence]
        found = triple.identity(*q.shape, like=q)
        for first in range(segment.start * self.tile, min(segment.stop * self.tile, end), self.tile):
            keys = slice(first, min(first + self.tile, end))
            k, v = self.k[sequence, kv_head, keys], self.v[sequence, kv_head, keys]
            found = triple.merge(found, triple.partial(q, k, v, self.scale))
        return found


def emulate(
    q: Float[Tensor, "batch head d_head"],
    k: Float[Tensor, "batch kv_head key d_head"],
    v: Float[Tensor, "batch kv_head key d_head"],
    lengths: Int[Tensor, " batch"],
    tile: int,
    schedule: Schedule,
    *,
    order: Sequence[int] | None = None,
    resident: int | None = None,
) -> Float[Tensor, "batch head d_head"]:
    """z, by the CTAs of a schedule made for `lengths`, len(row_blocks(...)) heads and tiles of `tile` keys.

    Args:
        order: the CTAs in the sequence of their launch; 0, 1, … by default, which is the paper's.
        resident: how many have room at once; all by default, as the paper asks for.

    Raises:
        Deadlock: if every resident CTA waits for one that has no room.
    """
    machine = _Machine(q, k, v, lengths.tolist(), tile, q.shape[-1] ** -0.5, schedule)
    waiting = list(range(schedule.grid) if order is None else order)
    room, running = resident or schedule.grid, {}
    while waiting or running:
        while waiting and len(running) < room:
            cta = waiting.pop(0)
            running[cta] = machine.run(cta)
        flags = len(machine.scratch)
        ended = [cta for cta, steps in running.items() if next(steps, "ended") == "ended"]
        if not ended and len(machine.scratch) == flags:
            raise Deadlock(f"{len(running)} CTAs wait for CTA {min(running) + 1} or later, which has no room")
        for cta in ended:
            del running[cta]
    return machine.z

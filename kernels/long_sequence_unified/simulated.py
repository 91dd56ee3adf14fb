"""The workers of a ring in turn within one process: any number of them, no communication, the same arithmetic."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from microtome.kernels.long_sequence_unified import worker
from microtome.kernels.long_sequence_unified._attention import Attention, Engine, check_mask, rules
from microtome.kernels.long_sequence_unified.distributed import TILE
from microtome.kernels.long_sequence_unified.tiles import Rows, Rules, fold
from microtome.kernels.long_sequence_unified.traffic import Sent, Traffic


class _Simulation(Engine):
    """All workers as one engine, on the whole sequence's tensors."""

    def __init__(self, sizes: tuple[int, ...], traffic: Traffic, fold: worker.Fold):
        self.places = [worker.Place(rank, sizes) for rank in range(len(sizes))]
        self.sizes, self.traffic, self.fold = list(sizes), traffic, fold

    def forward(self, rules: Rules, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        shards = zip(*(self._cut(x) for x in (q, k, v, mask)), strict=True)
        workers = [worker.forward(p, rules, *own, self.fold) for p, own in zip(self.places, shards, strict=True)]
        z, lse = zip(*_in_turn(workers, self.traffic.forward), strict=True)
        return torch.cat(z, 2), torch.cat(lse, 2)

    def backward(self, rules: Rules, saved: Sequence[Tensor | None], dz: Tensor) -> tuple[Tensor, ...]:
        shards = zip(*(self._cut(x) for x in (*saved, dz)), strict=True)
        workers = [worker.backward(p, rules, own[:-1], own[-1]) for p, own in zip(self.places, shards, strict=True)]
        done = _in_turn(workers, self.traffic.backward)
        return tuple(torch.cat(parts, 2) for parts in zip(*done, strict=True))

    def _cut(self, x: Tensor | None) -> Sequence[Tensor | None]:
        """Each worker's rows; positions are the last axis of a mask and the third of all else."""
        if x is None:
            return [None] * len(self.sizes)
        return x.split(self.sizes, 2 if x.ndim > 2 else 1)


def _in_turn(workers: list[worker.Worker], sent: Sent) -> list:
    """Moves all workers from exchange to exchange together; what each sends lies in the next one's hands at once."""
    replies: list[Callable[[], None] | None] = [None] * len(workers)
    while True:
        exchanges, results = [], []
        for working, reply in zip(workers, replies, strict=True):
            try:
                exchanges.append(working.send(reply))
            except StopIteration as end:
                results.append(end.value)
        if results:
            return results
        for rank, exchange in enumerate(exchanges):
            receiver = exchanges[(rank + 1) % len(workers)]
            for out, into in zip(exchange.outgoing, receiver.incoming, strict=True):
                sent.count(out)
                into.copy_(out)
        replies = [_nothing] * len(workers)


def _nothing() -> None:
    """What waits for a transfer that is over."""


def simulated_attention(
    q: Rows,
    k: Rows,
    v: Rows,
    *,
    sizes: Sequence[int],
    causal: bool = False,
    mask: Bool[Tensor, "batch query"] | None = None,
    scale: float | None = None,
    tile: int = TILE,
    traffic: Traffic | None = None,
    fold: worker.Fold = fold,
) -> Rows:
    """What `ring_attention` gives over len(sizes) workers, computed worker by worker; differentiable.

    Args:
        q, k, v: the whole sequence, [batch head pos d_head].
        sizes: how many rows each worker holds.
        causal, scale, tile: as in `ring_attention`.
        mask: of all keys, True where a key may be attended to.
        traffic: where to count what all workers send.
        fold: how a worker takes a block in; a study of what goes wrong may give another one.

    Raises:
        ValueError: for tensors that do not fit each other, or sizes that do not add up to the sequence.
    """
    sizes = tuple(sizes)
    chosen = rules(q, k, v, causal=causal, scale=scale, tile=tile)
    if not sizes or min(sizes) < 0 or sum(sizes) != q.shape[2]:
        raise ValueError(f"sizes must add up to the sequence's {q.shape[2]} rows, none negative, not {list(sizes)}.")
    check_mask(mask, k)
    engine = _Simulation(sizes, Traffic() if traffic is None else traffic, fold)
    return Attention.apply(engine, chosen, mask, q, k, v)

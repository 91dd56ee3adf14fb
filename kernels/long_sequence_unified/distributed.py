"""The ring over `torch.distributed`: gloo between processes of one machine, nccl between GPUs.

ring = Ring()                                                       # after torch.distributed.init_process_group
sizes = shares(length, ring.workers)
z = ring_attention(q, k, v, ring=ring, sizes=sizes, causal=True)    # rows of this worker in, rows out
z.sum().backward()                                                  # every worker must go back as well
ring.traffic.forward.bytes                                          # what this worker has sent
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist
from jaxtyping import Bool
from torch import Tensor

from microtome.kernels.long_sequence_unified import worker
from microtome.kernels.long_sequence_unified._attention import Attention, Engine, check_mask, rules
from microtome.kernels.long_sequence_unified.tiles import Rows, Rules
from microtome.kernels.long_sequence_unified.traffic import Sent, Traffic

TILE = 512


class Ring:
    """This process among the workers of a group, which send to the next rank and receive from the one before.

    Args:
        group: the process group; None for the default one.

    Attributes:
        traffic: what this worker has sent since it was made.

    Raises:
        RuntimeError: if `torch.distributed` has not been started.
    """

    def __init__(self, group: dist.ProcessGroup | None = None):
        if not dist.is_initialized():
            raise RuntimeError("a ring needs torch.distributed.init_process_group first.")
        self.group = dist.group.WORLD if group is None else group
        self.rank, self.workers = dist.get_rank(self.group), dist.get_world_size(self.group)
        self.next, self.previous = (
            dist.get_global_rank(self.group, (self.rank + hop) % self.workers) for hop in (1, -1)
        )
        self.traffic = Traffic()
        self._exchanges = 0

    def drive(self, working: worker.Worker, sent: Sent) -> Any:
        """What the worker of this process returns, its messages carried and counted."""
        try:
            exchange = next(working)
            while True:
                for tensor in exchange.outgoing:
                    sent.count(tensor)
                exchange = working.send(self._start(exchange))
        except StopIteration as end:
            return end.value

    def _start(self, exchange: worker.Exchange) -> Callable[[], None]:
        """Starts both transfers; the function returned waits for them. Empty tensors stay where they are."""
        operations = []
        for op, tensors, peer in (
            (dist.isend, exchange.outgoing, self.next),
            (dist.irecv, exchange.incoming, self.previous),
        ):
            for i, tensor in enumerate(tensors):
                if tensor.numel():
                    # Two exchanges may be under way at once: their tensors must not be taken for each other.
                    tag = 4 * self._exchanges + i
                    operations.append(dist.P2POp(op, tensor, peer, self.group, tag))
        self._exchanges += 1
        requests = dist.batch_isend_irecv(operations) if operations else []

        def wait() -> None:
            for request in requests:
                request.wait()

        return wait


@dataclass(frozen=True)
class _AtPlace(Engine):
    """A ring as an engine: its worker, with the sizes of one call."""

    ring: Ring
    place: worker.Place

    def forward(self, rules: Rules, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        return self.ring.drive(worker.forward(self.place, rules, q, k, v, mask), self.ring.traffic.forward)

    def backward(self, rules: Rules, saved: Sequence[Tensor | None], dz: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.ring.drive(worker.backward(self.place, rules, saved, dz), self.ring.traffic.backward)


def ring_attention(
    q: Rows,
    k: Rows,
    v: Rows,
    *,
    ring: Ring,
    sizes: Sequence[int],
    causal: bool = False,
    mask: Bool[Tensor, "batch query"] | None = None,
    scale: float | None = None,
    tile: int = TILE,
) -> Rows:
    """Exact softmax attention of this worker's rows to the keys of all workers; every worker must call it.

    Args:
        q, k, v: this worker's rows, [batch head pos d_head] with `sizes[ring.rank]` positions.
        ring: the workers.
        sizes: how many rows each worker holds, in order of rank; `shares` makes them.
        causal: whether a row sees no key behind itself in the whole sequence.
        mask: of this worker's keys, True where a key may be attended to; None on every worker or on none.
        scale: what scores are multiplied by; None gives 1/√d_head.
        tile: b; no more than b × b scores a head exist at a time.

    Raises:
        ValueError: for tensors that do not fit each other, the sizes or the ring.
    """
    sizes = tuple(sizes)
    if len(sizes) != ring.workers or min(sizes) < 0:
        raise ValueError(f"sizes must be {ring.workers} numbers of rows, one a worker, not {list(sizes)}.")
    chosen = rules(q, k, v, causal=causal, scale=scale, tile=tile)
    if q.shape[2] != sizes[ring.rank]:
        raise ValueError(f"worker {ring.rank} holds {q.shape[2]} rows where sizes says {sizes[ring.rank]}.")
    check_mask(mask, k)
    return Attention.apply(_AtPlace(ring, worker.Place(ring.rank, sizes)), chosen, mask, q, k, v)

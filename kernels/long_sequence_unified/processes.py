"""Workers as processes of this machine, over gloo: for tests and for trying the ring out.

On several machines, or with a GPU each, `torchrun` starts the processes and nothing here is needed.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from microtome.kernels.long_sequence_unified.distributed import Ring, ring_attention
from microtome.kernels.long_sequence_unified.traffic import Traffic


def run(workers: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `work(ring, *arguments)` returns in each of so many new processes, in order of rank.

    Args:
        workers: how many processes to start; each uses one thread.
        work: a function that a new process can import; its results must be such as `torch.save` keeps.
        arguments: given to every process.

    Raises:
        ValueError: for less than one worker.
        torch.multiprocessing.ProcessRaisedException: if a process failed, with its traceback.
    """
    if workers < 1:
        raise ValueError(f"there must be at least 1 worker, not {workers}.")
    with tempfile.TemporaryDirectory() as folder:
        torch.save(arguments, Path(folder, "arguments"))
        mp.spawn(_worker, (workers, work, folder), nprocs=workers)
        return [torch.load(Path(folder, f"result{rank}"), weights_only=False) for rank in range(workers)]


def _worker(rank: int, workers: int, work: Callable[..., Any], folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # no other machine takes part
    store = dist.FileStore(str(Path(folder, "meeting")), workers)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=workers)
    try:
        arguments = torch.load(Path(folder, "arguments"), weights_only=False)
        torch.save(work(Ring(), *arguments), Path(folder, f"result{rank}"))
    finally:
        dist.destroy_process_group()


def attention_with_gradients(
    ring: Ring, q: Tensor, k: Tensor, v: Tensor, dz: Tensor, options: dict[str, Any]
) -> tuple[tuple[Tensor, ...], Traffic]:
    """This worker's rows of (z, dq, dk, dv), from the whole sequence's q, k, v and the gradient at z; and its traffic.

    `options` are the keywords of `ring_attention` but `ring`, with the whole sequence's mask.
    """
    sizes = options["sizes"]
    first = sum(sizes[: ring.rank])
    rows = slice(first, first + sizes[ring.rank])
    if options.get("mask") is not None:
        options = {**options, "mask": options["mask"][:, rows]}
    q, k, v = (x[:, :, rows].detach().requires_grad_() for x in (q, k, v))
    z = ring_attention(q, k, v, ring=ring, **options)
    return (z.detach(), *torch.autograd.grad(z, (q, k, v), dz[:, :, rows])), ring.traffic

"""The public function: which path a call takes."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from microtome.kernels.gpu import takes_triton
from microtome.kernels.lean_attention import cpu
from microtome.kernels.lean_attention.equation import check


@torch.no_grad()
def decode(
    q: Float[Tensor, "batch head d_head"],
    k: Float[Tensor, "batch kv_head key d_head"],
    v: Float[Tensor, "batch kv_head key d_head"],
    lengths: Int[Tensor, " batch"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "batch head d_head"]:
    """One query a sequence against a cache of keys and values, exactly: z = softmax(scale·q·kᵀ) v.

    Args:
        q: the newest position's queries; heads h, …, h + group − 1 share a key-value head where there are fewer.
        k, v: the cache, any strides; entries at or past a sequence's length are not read.
        lengths: keys of each sequence, 0 to the cache's; all of them by default. Keep it on the CPU: the deal of work
            is made there.
        scale: of the scores, 1/√d_head by default.

    Returns z in q's dtype, 0 for a sequence without keys, without a gradient: this is inference. On a GPU the Triton
    kernel deals tiles of keys to all multiprocessors (stream-K); on the CPU torch's fused attention reads each key
    once.

    Raises ValueError or TypeError on shapes, dtypes, lengths or a scale outside the above.
    """
    check(q, k, v, lengths, scale)
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    known = [k.shape[2]] * q.shape[0] if lengths is None else lengths.tolist()
    if takes_triton(q):
        from microtome.kernels.lean_attention import triton_path

        if triton_path.supports(q):
            multiprocessors = torch.cuda.get_device_properties(q.device).multi_processor_count
            return triton_path.forward(q, k, v, known, scale, multiprocessors)
    return cpu.forward(q, k, v, known, scale)

"""The public function: which path a call takes."""

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.kernels.byte_transformer import cpu
from microtome.kernels.byte_transformer.equation import check
from microtome.kernels.byte_transformer.packing import Packing
from microtome.kernels.gpu import takes_triton


def attention(
    q: Float[Tensor, "token head d_head"],
    k: Float[Tensor, "token head d_head"],
    v: Float[Tensor, "token head d_head"],
    packing: Packing,
    scale: float | None = None,
) -> Float[Tensor, "token head d_head"]:
    """Bidirectional softmax attention within each sequence of a packed batch, without padding and without a mask.

    Args:
        q, k, v: packed rows, any strides (three slices of one product are fine).
        packing: whose rows they are.
        scale: of the scores, 1/√d_head by default.

    Returns z in q's dtype. Differentiable on the CPU path; on a GPU the Triton kernel is for inference, and inputs that
    want gradients take torch's fused attention, sequence by sequence.

    Raises ValueError or TypeError on shapes, dtypes or a scale outside the above.
    """
    check(q, k, v, packing, scale)
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    learned = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    if takes_triton(q) and not learned:
        from microtome.kernels.byte_transformer import triton_path

        if triton_path.supports(q):
            multiprocessors = torch.cuda.get_device_properties(q.device).multi_processor_count
            return triton_path.forward(q, k, v, packing, scale, 4 * multiprocessors)
    return cpu.forward(q, k, v, packing, scale)

"""Operations of a computation, counted while it runs: of all elements, or of products of matrices alone."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

_TRANSFORMS = {"_fft_r2c", "_fft_c2r", "_fft_c2c"}
_PRODUCTS = {"mm", "bmm"}


_aten = torch.ops.aten
_FUSED = {
    # torch 2.13 counts the fused attention of GPUs, and takes that of the CPU for nothing.
    _aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, *_: 4 * q.numel() * k.shape[2],
    # Scores once more, and the gradients of values, probabilities, queries and keys.
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda _, q, k, *__: 10 * q.numel() * k.shape[2],
}


class _Counter(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.operations = 0.0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        given = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
        if name in _TRANSFORMS:
            real = max([*tensors, *given], key=lambda t: t.shape[args[1][0]])
            self.operations += real.numel() * 2.5 * math.log2(max(2, real.shape[args[1][0]]))
        elif name in _PRODUCTS:
            self.operations += 2 * tensors[0].numel() * args[0].shape[-1]
        elif not function.is_view:
            self.operations += sum(max(t.numel(), *(g.numel() for g in given), 0) for t in tensors)
        return out


def element_operations(compute: Callable[[], object]) -> float:
    """How many element operations `compute` takes: 2.5 L log₂ L for a real transform of length L, two for each term of
    a matrix product, else one for each element of the larger of input and output; views are free."""
    with torch.no_grad(), _Counter() as counter:
        compute()
    return counter.operations


class _Products(TorchDispatchMode):
    """Sums torch's own counts; its `FlopCounterMode` cannot be in force where a backward pass nests."""

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        operation = function.overloadpacket
        if operation in _FUSED:
            self.total += _FUSED[operation](*args)
        elif operation in flop_registry:
            self.total += flop_registry[operation](*args, **(kwargs or {}), out_val=out)
        return out


def matrix_operations(compute: Callable[[], object]) -> int:
    """Operations of products of matrices and of fused attention, two for a multiplication with its addition."""
    with _Products() as counter:
        compute()
    return counter.total

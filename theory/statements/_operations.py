"""Element operations of a computation, counted while it runs."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_TRANSFORMS = {"_fft_r2c", "_fft_c2r", "_fft_c2c"}
_PRODUCTS = {"mm", "bmm"}


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

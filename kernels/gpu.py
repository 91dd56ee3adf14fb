"""Whether the GPU paths can be taken: a machine without Triton loses speed, nothing else."""

from functools import cache
from importlib.util import find_spec

from torch import Tensor


@cache
def triton_installed() -> bool:
    """Whether Triton can be imported; asked without importing it."""
    return find_spec("triton") is not None


def takes_triton(x: Tensor) -> bool:
    """Whether x lies on a GPU, is not empty, and Triton is installed."""
    return x.is_cuda and x.numel() > 0 and triton_installed()

"""Attention with a sigmoid of each score in softmax's place (Ramapuram et al. 2025, slug `sigmoid_attention`).

`equation` holds the reference and the weighting, `triton_path` the GPU kernel, `dispatch` the public functions; tiles
and gradients are those of `kernels.scores`.
"""

from microtome.kernels.sigmoid_attention.dispatch import attention as attention
from microtome.kernels.sigmoid_attention.dispatch import row_entropy as row_entropy
from microtome.kernels.sigmoid_attention.equation import reference as reference
from microtome.kernels.sigmoid_attention.equation import weights as weights

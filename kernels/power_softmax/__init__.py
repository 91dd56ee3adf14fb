"""Attention with an even power in the exponential's place ("Power-Softmax", 2024, slug `power_softmax`).

`equation` holds the reference and the weighting, `reciprocal` its polynomial division, `triton_path` the GPU kernel,
`dispatch` the public functions; tiles and gradients are those of `kernels.scores`.
"""

from microtome.kernels.power_softmax.dispatch import attention as attention
from microtome.kernels.power_softmax.dispatch import row_entropy as row_entropy
from microtome.kernels.power_softmax.equation import PowerSoftmax as PowerSoftmax
from microtome.kernels.power_softmax.equation import reference as reference
from microtome.kernels.power_softmax.equation import weights as weights
from microtome.kernels.power_softmax.reciprocal import goldschmidt as goldschmidt
from microtome.kernels.power_softmax.reciprocal import relative_error as relative_error
from microtome.kernels.power_softmax.reciprocal import steps_for as steps_for

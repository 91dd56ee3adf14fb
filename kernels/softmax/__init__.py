"""Softmax attention over a score transform, with the row entropy and log-normaliser as by-products.

    A = softmax(scale·q·kᵀ + bias) ⊙ factor,   z = A·v,   Ent_i = −Σ_j P_ij log P_ij

`scores` holds the transform and its checks, `equation` the reference, `blockwise` the tiles and all
gradients, `fused` the entropy from torch's flash kernel, `triton_path` the GPU kernel, `dispatch` the choice.
"""

from microtome.kernels.scores.transform import ScoreTransform as ScoreTransform
from microtome.kernels.scores.transform import score_transform as score_transform
from microtome.kernels.softmax.dispatch import attention as attention
from microtome.kernels.softmax.dispatch import attention_with_entropy as attention_with_entropy
from microtome.kernels.softmax.dispatch import log_normaliser as log_normaliser
from microtome.kernels.softmax.dispatch import row_entropy as row_entropy
from microtome.kernels.softmax.equation import reference as reference

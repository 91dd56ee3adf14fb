"""Exact attention over a sequence that is cut into pieces, one a worker.

("A Unified View of Long-Sequence Models towards Modeling Million-Scale Dependencies", 2023, slug
`long_sequence_unified`.)

Each of P workers holds L/P rows of q, k and v. Blocks of keys and values go round a ring; every worker folds the block
that it holds into the online softmax of its own rows. A worker keeps O(L·D/P + b²) numbers and moves 2(P−1)·L·D/P
words forward and twice as many backward.

`tiles` holds the arithmetic of one block, `worker` what one worker does, `traffic` what is moved and the formulas for
it, `distributed` the ring over `torch.distributed`, `simulated` the same workers in turn within one process,
`processes` a way to start workers on this machine.
"""

from microtome.kernels.long_sequence_unified.distributed import Ring as Ring
from microtome.kernels.long_sequence_unified.distributed import ring_attention as ring_attention
from microtome.kernels.long_sequence_unified.simulated import simulated_attention as simulated_attention
from microtome.kernels.long_sequence_unified.traffic import Traffic as Traffic
from microtome.kernels.long_sequence_unified.traffic import shares as shares
from microtome.kernels.long_sequence_unified.traffic import words_moved as words_moved

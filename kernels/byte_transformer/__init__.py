"""ByteTransformer (Zhai et al. 2022, IPDPS 2023, slug `byte_transformer`): ragged batches without padding.

The valid tokens of a batch lie one after the other as T = Σ n_b rows, and stay so through all layers: whatever works
token by token runs on T rows, and attention finds each sequence by its first row.

`packing` says which rows are whose, `equation` is attention on packed rows as it is written down, `cpu` the fast CPU
path, `triton_path` the GPU kernel, `visitor` the enumeration of tiles of problems of unequal sizes, `tiled_softmax` the
statistics of the grouped-GEMM attention, `flops` the count of operations, `dispatch` the choice.
"""

from microtome.kernels.byte_transformer.dispatch import attention as attention
from microtome.kernels.byte_transformer.equation import reference as reference
from microtome.kernels.byte_transformer.packing import Packing as Packing
from microtome.kernels.byte_transformer.packing import packing as packing
from microtome.kernels.byte_transformer.packing import packing_of_mask as packing_of_mask

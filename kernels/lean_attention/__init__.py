"""LeanAttention (Sanovar et al. 2024, slug `lean_attention`): exact decode attention with stream-K work.

One query row a head attends to a long cache of keys. The keys are cut into LeanTiles, the tiles of all heads and
sequences are laid end to end, and every thread block (CTA) takes an equal run of them. A run that begins inside a
head leaves an unnormalised triple (m, l, O) behind, which the CTA that holds the head's first tile folds in:

    (m, l, O)_A ⊕ (m, l, O)_B = (m, l_A 2^{m_A − m} + l_B 2^{m_B − m}, O_A 2^{m_A − m} + O_B 2^{m_B − m}),
    m = max(m_A, m_B).

`schedule` deals out the tiles, `triple` is ⊕, `equation` the reference, `emulator` runs the CTAs one step at a time,
`cpu` is the fast CPU path, `triton_path` the GPU kernel, `dispatch` the choice.
"""

from microtome.kernels.lean_attention.dispatch import decode as decode
from microtome.kernels.lean_attention.equation import reference as reference
from microtome.kernels.lean_attention.schedule import Schedule as Schedule
from microtome.kernels.lean_attention.schedule import schedule as schedule

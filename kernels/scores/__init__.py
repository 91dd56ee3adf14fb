"""Scores of queries against keys, s_ij = scale·q_i·k_j + bias_ij, and what attention of every weighting does with them.

`transform` says which scores a row sees, `tiles` cuts them so that no n×n matrix is held, `weighting` turns tiles into
weights, outputs and gradients where weights are no softmax, `function` is the differentiable operation over it;
`block` and `triton_backward` are the same on a GPU.
"""

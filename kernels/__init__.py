"""Floor 1: fast numerical primitives. Pure functions on tensors: no `nn.Module`, no model, nothing above."""

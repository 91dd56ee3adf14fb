"""Orthogonal matrices drawn uniformly."""

import torch
from jaxtyping import Float
from torch import Tensor


def haar(batch: int, rows: int, columns: int, generator: torch.Generator) -> Float[Tensor, "batch rows columns"]:
    """Matrices with orthonormal columns, uniform among all of them (Haar measure), on the generator's device; float64.

    Q of a Gaussian matrix is Haar once the signs of R's diagonal, which the algorithm chose, are moved into it
    (Mezzadri 2007, "How to generate random matrices from the classical compact groups").

    Raises:
        ValueError: if there are more columns than rows.
    """
    if columns > rows:
        raise ValueError(f"{columns} columns of {rows} numbers cannot be orthonormal.")
    gaussian = torch.randn(batch, rows, columns, generator=generator, device=generator.device, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    return q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]

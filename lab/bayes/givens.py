"""Ridge and least squares for every prefix by orthogonal transformations, whatever the ridge and the rank.

The state after k pairs is a lower-triangular T with TᵀT = XᵀX + λI, and t with Tᵀt = Xᵀy. A pair enters by
one sweep of Givens rotations, so that T is at every prefix what a QR decomposition of that prefix would give:
it does not remember how ill-conditioned an earlier prefix was, and no condition number is squared (Golub &
Van Loan, Matrix Computations, §6.5). The loop runs over the points of a prompt; all prompts move together, on
the last axis of every tensor here so that a rotation touches contiguous memory.

Without a ridge the minimum-norm solution wants coordinates in which a prefix of rank r fills the first r
axes: an orthonormal basis of the rows is grown by Gram–Schmidt in the order of the points. There a row that
opens an axis is a new row of T as it stands, and only the later ones are rotated.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def prefixes(
    xs: Float[Tensor, "batch points dim"], ys: Float[Tensor, "batch points"], ridge: float, eps: float
) -> tuple[Float[Tensor, "batch points dim"], Float[Tensor, "batch points"]]:
    """Fits every prefix, accurately for any ridge ≥ 0 and any rank.

    Args:
        xs: inputs.
        ys: labels.
        ridge: λ ≥ 0.
        eps: rounding error of the inputs. For λ = 0 row i lies in the span of the rows before it if its
            distance from it is at most eps·max(i, dim) times the longest row so far (the cut
            `numpy.linalg.lstsq` makes among singular values).

    Returns:
        Weights (XᵀX + λI)⁻¹Xᵀy of the pairs before i, X⁺y for λ = 0; and what a unit prior leaves open of
        wᵀx_i, λ·x_iᵀ(XᵀX + λI)⁻¹x_i, which for λ = 0 is ‖(I − X⁺X)x_i‖².
    """
    batch, points, dim = xs.shape
    if ridge > 0:
        coordinates, opened = xs, [dim] * points
    else:
        basis, outside = _grow_basis(xs, eps)
        used = basis.abs().sum(dim=(0, 2)) > 0
        basis, opened = basis[:, used], used.cumsum(0).tolist()
        coordinates = xs @ basis.mT
    # Points first, then the label and the coordinates, the batch last.
    rows = torch.cat([ys[..., None], coordinates], dim=-1).permute(1, 2, 0).contiguous()
    state = rows.new_zeros(rows.shape[1] - 1, *rows.shape[1:])
    if ridge > 0:
        state.diagonal(offset=1).fill_(ridge**0.5)
    weights, leverage = torch.zeros_like(rows[:, 1:]), rows.new_zeros(points, batch)
    for i, (row, axes) in enumerate(zip(rows, opened, strict=True)):
        weights[i, :axes] = _solve(state[:axes])
        leverage[i] = _absorb(state[:axes], row[: axes + 1])
    weights = weights.permute(2, 0, 1)
    return (weights, ridge * leverage.mT) if ridge > 0 else (weights @ basis, outside)


def _solve(state: Tensor) -> Tensor:
    """w with Tw = t, [axis batch]; zero on axes that no row has opened."""
    w = state.new_zeros(len(state), state.shape[-1])
    for j, row in enumerate(state):
        pivot = row[j + 1]
        rest = row[0] - (row[1 : j + 1] * w[:j]).sum(0)
        w[j] = torch.where(pivot == 0, 0.0, rest / pivot)
    return w


def _absorb(state: Tensor, row: Tensor) -> Tensor:
    """Rotates `row` into `state` in place; returns its leverage ‖T⁻ᵀx‖² before it entered (given a ridge)."""
    leverage = row.new_zeros(row.shape[-1])
    for j in reversed(range(len(state))):
        upper = state[j, : j + 2]
        pivot, head = upper[-1].clone(), row[-1]
        length = torch.hypot(pivot, head)
        still = length == 0
        c, s = torch.where(still, 1.0, pivot / length), torch.where(still, 0.0, head / length)
        leverage += (1 + leverage) * (s / c).square()  # ∏c² = 1/(1 + leverage)
        rest = torch.addcmul(c * row[:-1], s, upper[:-1], value=-1)
        upper.mul_(c).addcmul_(s, row)
        row = rest
        if not row.any():
            break
    return leverage


def _grow_basis(xs: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Gram–Schmidt over the points.

    Returns:
        An orthonormal basis [batch point dim], zero at the points that opened no axis; and the squared distance of
        every point from the span of the points before it [batch points], zero where it opened none.
    """
    batch, points, dim = xs.shape
    basis, outside = torch.zeros_like(xs), xs.new_zeros(batch, points)
    rank = torch.zeros(batch, dtype=torch.long, device=xs.device)
    longest = xs.norm(dim=-1).cummax(dim=1).values
    for i in range(points):
        rest, before = xs[:, i, :, None], basis[:, :i]
        for _ in range(2):  # once leaves up to eps·‖x‖ in the span, which may be all of a short rest; twice is enough
            rest = rest - before.mT @ (before @ rest)
        rest = rest.squeeze(-1)
        distance = rest.norm(dim=-1)
        new = distance > eps * max(i, dim) * longest[:, i]
        basis[:, i] = torch.where(new[:, None], rest / distance[:, None], 0.0)
        outside[:, i] = torch.where(new, distance.square(), 0.0)
        rank += new
        if (rank == dim).all():
            break
    return basis, outside

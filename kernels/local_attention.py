"""Softmax attention to nearby keys only, with memory linear in n.

    z_i = Σ_{j∈N(i)} softmax_j(scale·q_i·k_j + bias_ij) v_j

`block_attention`: N(i) is i's block of contiguous positions, with one block before it or without ("Generating long
sequences with sparse transformers", Child et al. 2019; local attention of Long Range Arena, Tay et al. 2020; block plus
previous of LongT5, Guo et al. 2022). `window_attention`: N(i) = {i − left, …, i + right} (Longformer, Beltagy et al.
2020). Both cut the queries into tiles and hand each tile the run of keys that any of its queries may see. A row that
may see no key at all gives zero.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

Heads = Float[Tensor, "batch head pos d_head"]
Mask = Bool[Tensor, "batch pos"]
Bias = Float[Tensor, "bias_head pos pos"]
SHORTEST_TILE = 32
"""Queries a tile of `window_attention` has at least: matrix products of fewer rows waste the cores."""


def in_block(
    n: int, block: int, *, causal: bool = False, previous: int = 0, device: torch.device | None = None
) -> Bool[Tensor, "query key"]:
    """Which keys `block_attention` shows each query; n × n, the reference."""
    at = torch.arange(n, device=device)
    behind = (at // block)[:, None] - at // block
    near = (behind >= 0) & (behind <= previous)
    return near & (at <= at[:, None]) if causal else near


def in_window(n: int, left: int, right: int, *, device: torch.device | None = None) -> Bool[Tensor, "query key"]:
    """Which keys `window_attention` shows each query; n × n, the reference."""
    at = torch.arange(n, device=device)
    ahead = at - at[:, None]
    return (ahead >= -left) & (ahead <= right)


def reference(
    q: Heads,
    k: Heads,
    v: Heads,
    visible: Bool[Tensor, "query key"],
    *,
    mask: Mask | None = None,
    bias: Bias | None = None,
    scale: float | None = None,
) -> Heads:
    """Softmax over the visible keys, scores in full: what both functions are tested against."""
    scores = q @ k.mT * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if bias is not None:
        scores = scores + bias
    open_ = visible if mask is None else visible & mask[:, None, None, :]
    somewhere = open_.any(-1, keepdim=True)
    # Rows without any key get finite scores first, so that softmax and its gradient stay defined there.
    scores = scores.masked_fill(~open_, -torch.inf).masked_fill(~somewhere, 0.0)
    return scores.softmax(-1).masked_fill(~somewhere, 0.0) @ v


def block_attention(
    q: Heads,
    k: Heads,
    v: Heads,
    block: int,
    *,
    causal: bool = False,
    previous: int = 0,
    mask: Mask | None = None,
    bias: Bias | None = None,
    scale: float | None = None,
) -> Heads:
    """Attention inside blocks of `block` contiguous positions, the last one shorter if it must be.

    Args:
        q, k, v: of any length.
        block: positions a block has.
        causal: whether a query sees keys up to its own position only.
        previous: 1 to see the block before too, 0 not to.
        mask: True where a key may be attended to.
        bias: added to the scores; [head or 1, query, key].
        scale: what q·k is multiplied by, 1/√d_head unless given.

    Raises:
        ValueError: for an impossible block or previous, or tensors that do not fit each other.
    """
    if block < 1 or previous not in (0, 1):
        raise ValueError(f"block must be at least 1 and previous 0 or 1, not {block} and {previous}.")
    _check(q, k, v, mask, bias)
    n = q.shape[2]
    block = min(block, max(n, 1))
    if not previous and mask is None and bias is None and n and n % block == 0:
        own = (_tiles(x, block) for x in (q, k, v))
        return _untile(F.scaled_dot_product_attention(*own, is_causal=causal, scale=scale), q)
    ahead = _ahead(block, previous * block, 0, q.device)
    visible = ahead <= 0 if causal else torch.ones_like(ahead, dtype=torch.bool)
    return _attend(q, k, v, visible, previous * block, mask=mask, bias=bias, scale=scale)


def window_attention(
    q: Heads,
    k: Heads,
    v: Heads,
    left: int,
    right: int,
    *,
    mask: Mask | None = None,
    bias: Bias | None = None,
    scale: float | None = None,
) -> Heads:
    """Attention of position i to keys i − left … i + right; right = 0 makes it causal.

    The other arguments are those of `block_attention`.

    Raises:
        ValueError: for a negative reach, or tensors that do not fit each other.
    """
    if left < 0 or right < 0:
        raise ValueError(f"left and right must be at least 0, not {left} and {right}.")
    _check(q, k, v, mask, bias)
    n = q.shape[2]
    left, right = min(left, n), min(right, n)
    ahead = _ahead(max(SHORTEST_TILE, left + right), left, right, q.device)
    return _attend(q, k, v, (ahead >= -left) & (ahead <= right), left, mask=mask, bias=bias, scale=scale)


def _ahead(tile: int, left: int, right: int, device: torch.device) -> Int[Tensor, "query key"]:
    """How far each key of a tile's run lies ahead of each of its queries."""
    return torch.arange(-left, tile + right, device=device) - torch.arange(tile, device=device)[:, None]


def _attend(
    q: Heads,
    k: Heads,
    v: Heads,
    visible: Bool[Tensor, "tile run"],
    left: int,
    *,
    mask: Mask | None,
    bias: Bias | None,
    scale: float | None,
) -> Heads:
    """Tiles of queries against runs of keys, each run beginning `left` before its tile."""
    (batch, _, n, _), (tile, run) = q.shape, visible.shape
    if not n:
        return torch.zeros_like(v)
    real = torch.ones(1, n, dtype=torch.bool, device=q.device) if mask is None else mask
    open_ = visible & _runs(real[:, None, :, None], tile, left, run)[..., 0][:, :, None]  # [batch·tile 1 query key]
    if bias is not None:
        near = _bias_tiles(bias.to(q.dtype), tile, left, run)
        if mask is None:
            open_ = open_.repeat(batch, 1, 1, 1)
        open_ = near.repeat(batch, 1, 1, 1).masked_fill(~open_, -torch.inf)
    elif mask is None:
        open_ = open_.repeat(batch, 1, 1, 1)
    near_k, near_v = (_runs(x, tile, left, run) for x in (k, v))
    return _untile(F.scaled_dot_product_attention(_tiles(q, tile), near_k, near_v, attn_mask=open_, scale=scale), q)


def _runs(
    x: Shaped[Tensor, "batch head pos width"], tile: int, left: int, run: int
) -> Shaped[Tensor, "tiles head run width"]:
    """For each tile the `run` positions from `left` before its first; zeros (False) outside the input."""
    count, beyond = -(-x.shape[2] // tile), run - tile
    x = F.pad(x, (0, 0, left, count * tile + beyond - left - x.shape[2]))
    own = _tiles(x[:, :, : count * tile], tile)
    if not beyond:
        return own
    after = F.pad(x[:, :, tile:], (0, 0, 0, tile - beyond))
    return torch.cat([own, _tiles(after, tile)[:, :, :beyond]], dim=2)


def _bias_tiles(bias: Bias, tile: int, left: int, run: int) -> Float[Tensor, "tile bias_head query run"]:
    """The bias of each tile's queries against its run of keys; of some real key where the run leaves the input."""
    n = bias.shape[1]
    starts = torch.arange(0, n, tile, device=bias.device)[:, None]
    rows = (starts + torch.arange(tile, device=bias.device)).clamp(max=n - 1)
    keys = (starts + torch.arange(-left, run - left, device=bias.device)).clamp(0, n - 1)
    return bias[:, rows[:, :, None], keys[:, None, :]].transpose(0, 1)


def _tiles(x: Shaped[Tensor, "batch head pos width"], tile: int) -> Shaped[Tensor, "tiles head tile width"]:
    """Positions cut into tiles that join the batch, zeros after the last."""
    short = -x.shape[2] % tile
    x = F.pad(x, (0, 0, 0, short)) if short else x
    return x.unflatten(2, (-1, tile)).transpose(1, 2).flatten(0, 1)


def _untile(z: Float[Tensor, "tiles head tile d_head"], like: Heads) -> Heads:
    return z.unflatten(0, (like.shape[0], -1)).transpose(1, 2).flatten(2, 3)[:, :, : like.shape[2]]


def _check(q: Heads, k: Heads, v: Heads, mask: Mask | None, bias: Bias | None) -> None:
    if not q.shape == k.shape == v.shape:
        raise ValueError(
            f"q, k and v must have one shape [batch head pos d_head], not {list(q.shape)}, {list(k.shape)} and "
            f"{list(v.shape)}."
        )
    batch, head, n, _ = q.shape
    if mask is not None and mask.shape != (batch, n):
        raise ValueError(f"mask must be [batch, pos] = {[batch, n]}, not {list(mask.shape)}.")
    if bias is not None and (bias.shape[0] not in (1, head) or bias.shape[1:] != (n, n)):
        raise ValueError(f"bias must be [head or 1, query, key] = {[head, n, n]}, not {list(bias.shape)}.")

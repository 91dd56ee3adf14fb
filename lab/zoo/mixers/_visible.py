"""What softmax mixers share whose queries see some keys only, said as a predicate on pairs of places.

The reference masks the n × n scores. The fast path goes over tiles of query rows, gathers the keys that any row of a
tile may see, and lets torch's fused attention take the tile; a method with a quicker way overrides it.
"""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from microtome.lab.zoo.mixers import softmax
from microtome.lab.zoo.mixers._heads import row_entropy
from microtome.lab.zoo.parts import Context


class VisibleMixer(softmax.SoftmaxMixer):
    """Softmax attention to the keys that `sees` shows."""

    skips_rows = False

    @abstractmethod
    def sees(self, queries: Int[Tensor, " query"], keys: Int[Tensor, " key"], n: int) -> Bool[Tensor, "query key"]:
        """Which keys a query may see by its place in an input of n positions; every query sees itself."""

    @abstractmethod
    def _tiles(self, n: int, device: torch.device) -> list[tuple[slice, Int[Tensor, " column"]]]:
        """Runs of rows that cover 0 … n − 1 in order, each with all keys that its rows see, in any order, each once."""

    def _open(self, queries: Tensor, keys: Tensor, n: int) -> Bool[Tensor, "query key"]:
        seen = self.sees(queries, keys, n)
        return seen & (keys <= queries[:, None]) if self.causal else seen

    def _adjusted(self, scores: Tensor, queries: Tensor) -> Tensor:
        n = scores.shape[-1]
        keys = torch.arange(n, device=scores.device)
        return scores.masked_fill(~self.sees(queries, keys, n), -torch.inf)

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Float[Tensor, "batch head pos d_head"]:
        parts = []
        for rows, columns in self._tiles(context.n, q.device):
            queries = torch.arange(rows.start, rows.stop, device=q.device)
            open_ = self._open(queries, columns, context.n)
            parts.append(self._tile(q[:, :, rows], k[:, :, columns], v[:, :, columns], open_, rows, columns, context))
        return torch.cat(parts, dim=2)

    def _tile(
        self, q: Tensor, k: Tensor, v: Tensor, open_: Tensor, rows: slice, columns: Tensor, context: Context
    ) -> Tensor:
        empty = None
        if context.mask is not None:
            open_ = open_ & context.mask[:, None, None, columns]
            # torch's fused attention gives NaN gradients to rows without a key: such rows look at all, and are zeroed.
            empty = ~open_.any(-1, keepdim=True)
            open_ = open_ | empty
        bias = open_
        if context.bias is not None:
            bias = context.bias[:, rows, columns].to(q.dtype).masked_fill(~open_, -torch.inf)
        z = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self.scale)
        return z if empty is None else z.masked_fill(empty, 0.0)

    def _row_entropy(self, q: Tensor, k: Tensor, context: Context) -> Float[Tensor, "batch head query"]:
        return row_entropy(self._effective(q, k, context))

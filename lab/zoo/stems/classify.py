"""Tokens in, one class out: the encoder of the Long Range Arena (Tay et al. 2020, `long_range_arena`).

A class token, zero at the start, goes before the sequence and is read at the end; or the mean over the real tokens is
read, or the last of them, as a left-to-right mixer needs it. The head is Linear → ReLU → Linear. Of two documents each
is encoded by itself, and the head reads [e₁, e₂, e₁ ⊙ e₂, e₁ − e₂].
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from microtome.lab.zoo.config import Spec
from microtome.lab.zoo.points import Point
from microtome.lab.zoo.transformer import SequenceModel

Pool = Literal["cls", "mean", "last"]


class SequenceClassifier(SequenceModel):
    """A classifier of token sequences, or of pairs of them."""

    def __init__(self, spec: Spec):
        super().__init__(spec)
        stem, d_model = spec.stem, spec.shape.d_model
        self.n_out = stem.n_classes
        self.embed = nn.Embedding(stem.d_vocab, d_model)
        width = d_model if stem.hidden is None else stem.hidden
        self.head = nn.Linear(4 * d_model if stem.pairs else d_model, width)
        self.unembed = nn.Linear(width, stem.n_classes)
        self.hook_pooled = Point("batch d_model", "hidden")
        if stem.pool == "cls":
            self.cls = nn.Parameter(torch.zeros(d_model))
        self._finish()

    def forward(
        self,
        tokens: Int[Tensor, "batch *documents pos"],
        mask: Bool[Tensor, "batch *documents pos"] | None = None,
        *,
        stop_at_layer: int | None = None,
    ) -> Float[Tensor, "batch n_classes"] | Float[Tensor, "rows stream d_model"]:
        """Logits [batch n_classes]; with `stop_at_layer`, the stream [batch·documents pos d_model] before that layer.

        Args:
            tokens: [batch pos], or [batch 2 pos] of a stem with `pairs`; ids from 0 to d_vocab − 1.
            mask: of the same shape, True at real tokens, of which every document has at least one.
            stop_at_layer: as in TransformerLens, negative counts from the end; position 0 is the class token's, if any.

        Raises:
            ValueError: for tokens out of the vocabulary, an empty input or document, another shape, or a longer input
                than n_ctx, of which the class token takes one position.
        """
        self._check(tokens, mask)
        pairs = self.spec.stem.pairs
        rows = tokens.flatten(0, 1) if pairs else tokens
        seen = mask.flatten(0, 1) if pairs and mask is not None else mask
        x = self._encode(rows, seen, stop_at_layer)
        if stop_at_layer is not None:
            return x
        pooled = self.hook_pooled(self._pooled(x, seen))
        if pairs:
            one, two = pooled.unflatten(0, (len(tokens), 2)).unbind(1)
            pooled = torch.cat((one, two, one * two, one - two), dim=-1)
        return self.unembed(self.head(pooled).relu())

    def _encode(self, tokens: Tensor, mask: Tensor | None, stop_at_layer: int | None) -> Tensor:
        x = self.embed(tokens)
        if self.spec.stem.pool != "cls":
            return self._through(x, mask=mask, stop_at_layer=stop_at_layer)
        x = torch.cat((self.cls.expand(len(x), 1, -1), x), dim=1)
        if mask is not None:
            mask = torch.cat((mask.new_ones(len(mask), 1), mask), dim=1)
        return self._through(x, mask=mask, read=slice(0, 1), stop_at_layer=stop_at_layer)

    def _pooled(self, x: Tensor, mask: Tensor | None) -> Float[Tensor, "rows d_model"]:
        pool = self.spec.stem.pool
        if pool == "cls":
            return x[:, 0]
        if mask is None:
            return x.mean(1) if pool == "mean" else x[:, -1]
        if pool == "mean":
            return (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        places = torch.arange(x.shape[1], device=x.device)
        return x[torch.arange(len(x), device=x.device), (mask * places).argmax(1)]

    def _check(self, tokens: Tensor, mask: Tensor | None) -> None:
        pairs, top = self.spec.stem.pairs, self.spec.stem.d_vocab - 1
        wanted = "[batch, 2, pos]" if pairs else "[batch, pos]"
        fits = tokens.ndim == 3 and tokens.shape[1] == 2 if pairs else tokens.ndim == 2
        if not fits or tokens.numel() == 0 or tokens.is_floating_point():
            raise ValueError(
                f"tokens must be whole numbers of shape {wanted} with at least one of each, "
                f"not {tokens.dtype} {list(tokens.shape)}."
            )
        if mask is not None and mask.shape != tokens.shape:
            raise ValueError(f"mask must have the tokens' shape {list(tokens.shape)}, not {list(mask.shape)}.")
        if tokens.device.type != "cpu":  # A check would wait for the device.
            return
        if not 0 <= tokens.min() <= tokens.max() <= top:
            bad = tokens[(tokens < 0) | (tokens > top)][0]
            raise ValueError(f"token {int(bad)} is not in the vocabulary 0 … {top}.")
        if mask is not None and not mask.any(-1).all():
            raise ValueError("the mask leaves a document without a real token; each needs at least one.")


@dataclass(frozen=True)
class Part:
    """Options of the stem.

    Attributes:
        d_vocab: tokens.
        n_classes: classes, at least 2.
        pool: what is read: "cls", "mean" over the real tokens, or "last" of them. A causal model's class token, the
            first of all, would see nothing, so that "cls" needs causal=False.
        pairs: whether an example is two documents.
        hidden: width of the head; None gives d_model.
    """

    d_vocab: int
    n_classes: int
    pool: Pool = "cls"
    pairs: bool = False
    hidden: int | None = None

    def build(self, spec: Spec) -> SequenceClassifier:
        for name, least in {"d_vocab": 1, "n_classes": 2, "hidden": 1}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, not {value}.")
        if self.pool not in get_args(Pool):
            raise ValueError(f"pool is one of {', '.join(get_args(Pool))}, not {self.pool!r}.")
        if self.pool == "cls" and spec.shape.causal:
            raise ValueError(
                "pool='cls' reads the first position, which sees nothing else with causal=True: use 'last'."
            )
        return SequenceClassifier(spec)

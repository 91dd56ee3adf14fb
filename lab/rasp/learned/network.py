"""The network: named variables side by side in the residual stream, read through gates and never added up.

The stream has its full width from the start, with zeros where nothing has been written yet. So the concatenation of the
paper is a sum as well, and whatever reads a residual stream (lenses, patching, attribution) reads this one.
"""

import difflib
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from microtome.lab.rasp.learned.gates import Sample, argmax, started
from microtome.lab.rasp.learned.heads import NEVER, CategoricalHeads, NumericalHeads
from microtome.lab.rasp.learned.mlps import Lookups
from microtome.lab.rasp.learned.options import BOS, EOS, Options
from microtome.lab.zoo.config import LensConfig
from microtome.lab.zoo.contract import HookedModel
from microtome.lab.zoo.points import Point

Stream = Float[Tensor, "batch pos d_model"]


class Block(nn.Module):
    """Both kinds of heads read the block's input; MLPs read that and what the heads wrote."""

    def __init__(self, options: Options, layer: int, generator: torch.Generator):
        super().__init__()
        o, self.options = options, options
        self.n_cat, self.n_num = o.categorical_before(layer), o.numerical_before(layer)
        self.attn = CategoricalHeads(o, layer, generator) if o.n_cat_heads else None
        self.num_attn = NumericalHeads(o, layer, generator) if o.n_num_heads else None
        sizes = {"d_mlp": o.d_mlp, "k": o.d_var, "generator": generator}
        n_cat, n_num = self.n_cat + o.n_cat_heads, self.n_num + o.n_num_heads
        self.mlp = Lookups(o.n_cat_mlps, n_cat, o.d_var, **sizes) if o.n_cat_mlps else None
        self.num_mlp = Lookups(o.n_num_mlps, n_num, 1, **sizes) if o.n_num_mlps else None
        for name in ("hook_resid_pre", "hook_resid_mid", "hook_resid_post"):
            self.add_module(name, Point("batch pos d_model", "stream"))
        self.hook_attn_out = Point("batch pos d_model", "write")
        self.hook_mlp_out = Point("batch pos d_model", "write")

    def forward(self, x: Stream, blocked: Bool[Tensor, "batch 1 #query key"], sample: Sample) -> Stream:
        x = self.hook_resid_pre(x)
        variables, numbers = self._variables(x, self.n_cat, self.n_num)
        copied = [self.attn(variables, blocked, sample)] if self.attn is not None else []
        counted = [self.num_attn(variables, numbers, blocked, sample)] if self.num_attn is not None else []
        x = self.hook_resid_mid(x + self.hook_attn_out(self._write(x, self.n_cat, copied, counted)))
        n_cat, n_num = self.n_cat + self.options.n_cat_heads, self.n_num + self.options.n_num_heads
        variables, numbers = self._variables(x, n_cat, n_num)
        looked_up = [self.mlp(variables, sample)] if self.mlp is not None else []
        looked_up += [self.num_mlp(numbers, sample)] if self.num_mlp is not None else []
        return self.hook_resid_post(x + self.hook_mlp_out(self._write(x, n_cat, looked_up, [])))

    def _variables(self, x: Tensor, n_cat: int, n_num: int) -> tuple[Tensor, Tensor]:
        """The first categorical variables [batch pos var k] and the first numerical ones [batch pos num 1]."""
        k, first = self.options.d_var, self.options.n_categorical * self.options.d_var
        return x[..., : n_cat * k].unflatten(-1, (n_cat, k)), x[..., first : first + n_num, None]

    def _write(self, x: Tensor, n_cat: int, categorical: list[Tensor], numerical: list[Tensor]) -> Tensor:
        """The stream with these variables in their places, the categorical ones from the `n_cat`-th on, else zero."""
        o, parts = self.options, []
        starts = (n_cat * o.d_var, o.n_categorical * o.d_var + self.n_num)
        for start, found in zip(starts, (categorical, numerical), strict=True):
            if found:
                flat = torch.cat(found, -2).flatten(-2)
                parts.append(F.pad(flat, (start, o.d_model - start - flat.shape[-1])))
        return sum(parts) if parts else torch.zeros_like(x)


class TransformerProgram(HookedModel):
    """A Transformer Program (Friedman et al. 2023, transformer_programs).

    `sample` turns all logits into choices. It is `argmax` unless a training run puts a `Gumbel` there for the length of
    a forward pass; so the network that one calls is the discrete one.

    Args:
        options: its shape.
        seed: of the parameters; the default generator is left alone.
    """

    def __init__(self, options: Options, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        o, self.options, self.sample = options, options, argmax
        k, n_tokens = o.d_var, len(o.tokens)
        if o.n_embeddings:
            self.embedding = started(o.n_embeddings, n_tokens, k, fan=o.n_embeddings * k, generator=generator)
        else:
            self.register_buffer("embedding", torch.eye(k)[None, :n_tokens], persistent=False)
        self.register_buffer("position", torch.eye(k)[: o.n_ctx], persistent=False)
        self.hook_embed = Point("batch pos d_model", "write")
        self.hook_pos_embed = Point("batch pos d_model", "write")
        self.blocks = nn.ModuleList(Block(o, layer, generator) for layer in range(o.n_layers))
        self.W_U = started(o.d_model, len(o.classes), fan=len(o.classes), generator=generator)
        self.register_buffer("never", torch.arange(len(o.classes)) == 0, persistent=False)
        self.setup()
        self.eval()

    def forward(
        self, tokens: Int[Tensor, "batch pos"], *, mask: Bool[Tensor, "batch pos"] | None = None
    ) -> Float[Tensor, "batch pos d_vocab_out"]:
        """Logits of each class at each position; that of `PAD` is −1e30.

        Args:
            tokens: ids, numbered as in `options.tokens`.
            mask: True at tokens that may be attended to; None for all but padding.

        Raises:
            ValueError: for ids out of the vocabulary, empty inputs, inputs longer than n_ctx, or another mask shape.
        """
        self._check(tokens, mask)
        blocked = (tokens == 0 if mask is None else ~mask)[:, None, None, :]
        n = tokens.shape[1]
        if self.options.causal:
            blocked = blocked | torch.ones(n, n, dtype=torch.bool, device=tokens.device).triu(1)
        embedded, position = self._embed(tokens)
        x = self.hook_embed(embedded) + self.hook_pos_embed(position)
        for block in self.blocks:
            x = block(x, blocked, self.sample)
        return (x @ self.W_U).masked_fill(self.never, NEVER)

    def _embed(self, tokens: Tensor) -> tuple[Stream, Stream]:
        """What is known at the start: the token and the number one, and the position."""
        o, k = self.options, self.options.d_var
        table = self.sample(self.embedding) if o.n_embeddings else self.embedding
        token = F.embedding(tokens, table.transpose(0, 1).flatten(1))
        inputs, rest = o.n_inputs * k, o.d_model - o.n_categorical * k - 1
        between = (o.n_categorical - o.n_inputs + 1) * k
        one = torch.ones_like(token[..., :1])
        embedded = torch.cat([F.pad(token, (0, between)), F.pad(one, (0, rest))], -1)
        position = F.pad(self.position[: tokens.shape[1]], (inputs - k, o.d_model - inputs))
        return embedded, position.expand(len(tokens), -1, -1)

    def _check(self, tokens: Tensor, mask: Tensor | None) -> None:
        if tokens.ndim != 2 or tokens.numel() == 0 or tokens.is_floating_point():
            raise ValueError(
                f"tokens must be whole numbers of shape [batch, pos] with at least one of each, "
                f"not {tokens.dtype} {list(tokens.shape)}."
            )
        if tokens.shape[1] > self.options.n_ctx:
            raise ValueError(
                f"the input has {tokens.shape[1]} positions; this model takes at most {self.options.n_ctx} (n_ctx)."
            )
        n_tokens = len(self.options.tokens)
        if tokens.device.type == "cpu" and not 0 <= tokens.min() <= tokens.max() < n_tokens:
            bad = tokens[(tokens < 0) | (tokens >= n_tokens)][0]
            raise ValueError(f"token {int(bad)} is not in the vocabulary 0 … {n_tokens - 1}.")
        if mask is not None and mask.shape != tokens.shape:
            raise ValueError(f"mask must be [batch, pos] = {list(tokens.shape)}, not {list(mask.shape)}.")

    def to_tokens(self, sentences: Sequence[Sequence[str]]) -> Int[Tensor, "batch pos"]:
        """Ids of sentences, which are sequences of words, padded to the longest.

        Raises:
            ValueError: if there is no sentence, one has no word or too many, or a word is not in the vocabulary.
        """
        ids = {word: i for i, word in enumerate(self.options.tokens)}
        lengths = [len(sentence) for sentence in sentences]
        if not lengths or not 1 <= min(lengths) <= max(lengths) <= self.options.n_ctx:
            raise ValueError(f"sentences must have 1 to {self.options.n_ctx} words each, not {lengths or 'none'}.")
        for word in {word for sentence in sentences for word in sentence} - set(ids):
            near = difflib.get_close_matches(word, ids, n=1) or list(ids)
            raise ValueError(f"{word!r} is not in the vocabulary (did you mean {near[0]!r}?): {', '.join(ids)}.")
        rows = [[ids[word] for word in sentence] for sentence in sentences]
        return torch.tensor([row + [0] * (max(lengths) - len(row)) for row in rows], device=self.W_U.device)

    @torch.no_grad()
    def predict(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """The most likely class at each word of each sentence, by `sample`; `BOS` and `EOS` stand for themselves.

        Raises:
            ValueError: as `to_tokens`.
        """
        best = self(self.to_tokens(sentences)).argmax(-1).tolist()
        return [
            [word if word in (BOS, EOS) else self.options.classes[c] for word, c in zip(sentence, row, strict=False)]
            for sentence, row in zip(sentences, best, strict=True)
        ]

    def absent(self) -> Mapping[str, str]:
        reasons = {}
        for i, block in enumerate(self.blocks):
            for name in ("attn", "num_attn", "mlp", "num_mlp"):
                if getattr(block, name) is None:
                    point = "hook_pre" if "mlp" in name else "hook_pattern"
                    reasons[f"blocks.{i}.{name}.{point}"] = f"the model was built without {name}"
            if block.num_attn is not None:
                reasons[f"blocks.{i}.num_attn.hook_attn_scores"] = (
                    "a numerical head has no softmax: its pattern is 0 or 1"
                )
                reasons[f"blocks.{i}.num_attn.hook_row_entropy"] = "the rows count matches and are no distributions"
        return reasons

    @property
    def b_U(self) -> Float[Tensor, " d_vocab_out"]:
        """The unembedding has no bias."""
        return torch.zeros_like(self.W_U[0])

    @property
    def cfg(self) -> LensConfig:
        """The model under TransformerLens' field names; heads are the categorical ones."""
        o = self.options
        return LensConfig(
            n_layers=o.n_layers,
            n_heads=o.n_cat_heads,
            d_model=o.d_model,
            d_head=o.d_var,
            d_mlp=o.d_mlp,
            n_ctx=o.n_ctx,
            act_fn="relu",
            normalization_type=None,
            positional_embedding_type="standard",
            attention_dir="causal" if o.causal else "bidirectional",
            attn_only=not (o.n_cat_mlps or o.n_num_mlps),
            d_vocab=len(o.tokens),
            d_vocab_out=len(o.classes),
            device=self.W_U.device,
            dtype=self.W_U.dtype,
        )

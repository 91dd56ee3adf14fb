"""Tokens in, logits out: embedding table, blocks, unembedding."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from microtome.lab.zoo.config import Spec
from microtome.lab.zoo.transformer import SequenceModel


class FactorisedEmbedding(nn.Module):
    """Token ids through a narrow table and a linear map (ALBERT, Lan et al. 2020): V·E + E·H weights for V·H."""

    def __init__(self, d_vocab: int, d_embed: int, d_model: int):
        super().__init__()
        self.table, self.up = nn.Embedding(d_vocab, d_embed), nn.Linear(d_embed, d_model)

    def forward(self, tokens: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch d_model"]:
        return self.up(self.table(tokens))

    @property
    def weight(self) -> Float[Tensor, "d_vocab d_model"]:
        """The product, as one table."""
        return self.up(self.table.weight)


class TokenModel(SequenceModel):
    """A language model or a token classifier, causal or bidirectional, with TransformerLens' weight names."""

    def __init__(self, spec: Spec):
        super().__init__(spec)
        self.n_out = spec.stem.d_vocab
        self.embed = spec.stem.table(spec.shape.d_model)
        self.unembed = nn.Linear(spec.shape.d_model, spec.stem.d_vocab, bias=spec.stem.unembed_bias)
        if spec.stem.tied:
            self.unembed.weight = self.embed.weight
        self._finish()

    def forward(
        self,
        tokens: Int[Tensor, "batch pos"],
        *,
        mask: Bool[Tensor, "batch pos"] | None = None,
        stop_at_layer: int | None = None,
    ) -> Float[Tensor, "batch pos width"]:
        """Logits [batch pos d_vocab]; with `stop_at_layer`, the stream [batch pos d_model] before that layer.

        Args:
            tokens: ids from 0 to d_vocab − 1.
            mask: True at real tokens; padding is never attended to.
            stop_at_layer: as in TransformerLens, negative counts from the end.

        Raises:
            ValueError: for tokens out of the vocabulary, empty inputs, inputs longer than n_ctx, or another mask shape.
        """
        self._check(tokens)
        x = self._through(self.embed(tokens), mask=mask, stop_at_layer=stop_at_layer)
        return x if stop_at_layer is not None else self.unembed(x)

    def _check(self, tokens: Tensor) -> None:
        if tokens.ndim != 2 or tokens.numel() == 0 or tokens.is_floating_point():
            raise ValueError(
                f"tokens must be whole numbers of shape [batch, pos] with at least one of each, "
                f"not {tokens.dtype} {list(tokens.shape)}."
            )
        # A check would wait for the device; there the embedding's own assertion must do.
        if tokens.device.type == "cpu" and not 0 <= tokens.min() <= tokens.max() < self.n_out:
            bad = tokens[(tokens < 0) | (tokens >= self.n_out)][0]
            raise ValueError(f"token {int(bad)} is not in the vocabulary 0 … {self.n_out - 1}.")

    W_E = property(lambda self: self.embed.weight, doc="[d_vocab d_model]")
    W_U = property(lambda self: self.unembed.weight.T, doc="[d_model d_vocab]")

    @property
    def b_U(self) -> Float[Tensor, " d_vocab"]:
        bias = self.unembed.bias
        return torch.zeros(self.n_out, device=self.unembed.weight.device) if bias is None else bias

    def accumulated_bias(
        self, layer: int, mlp_input: bool = False, include_mlp_biases: bool = True
    ) -> Float[Tensor, " d_model"]:
        """Sum of the output biases of all sub-layers before `layer`, and of its mixer too when `mlp_input`."""
        total = torch.zeros(self.spec.shape.d_model, device=self.embed.weight.device, dtype=self.embed.weight.dtype)
        for i, block in enumerate(self.blocks[: layer + mlp_input]):
            biases = [block.mixing.b_O]
            if include_mlp_biases and i < layer and block.mlp is not None:
                biases.append(block.mlp.b_out)
            for bias in biases:
                total = total if bias is None else total + bias
        return total

    def to_tokens(self, tokens) -> Int[Tensor, "batch pos"]:
        """Ids as a [batch, pos] tensor on the model's device; there is no tokenizer, so text is refused."""
        if isinstance(tokens, str) or (isinstance(tokens, list | tuple) and tokens and isinstance(tokens[0], str)):
            raise TypeError("this model has no tokenizer: give token ids, not text.")
        return torch.atleast_2d(torch.as_tensor(tokens, device=self.embed.weight.device))

    def tokens_to_residual_directions(self, tokens) -> Float[Tensor, "*shape d_model"]:
        """The unembedding direction of each token id."""
        return self.W_U.T[torch.as_tensor(tokens, device=self.unembed.weight.device)]


@dataclass(frozen=True)
class Part:
    """Options of a token model.

    Attributes:
        d_vocab: how many tokens there are.
        unembed_bias: whether the unembedding has one, as in TransformerLens.
        d_embed: E, the width of a factorised embedding; None gives one table as wide as the stream.
        tied: whether the unembedding is the embedding's table, which must then be as wide as the stream.
    """

    d_vocab: int
    unembed_bias: bool = True
    d_embed: int | None = None
    tied: bool = False

    def table(self, d_model: int) -> nn.Module:
        """The embedding."""
        if self.d_embed is None:
            return nn.Embedding(self.d_vocab, d_model)
        return FactorisedEmbedding(self.d_vocab, self.d_embed, d_model)

    def build(self, spec: Spec) -> TokenModel:
        for name, value in (("d_vocab", self.d_vocab), ("d_embed", self.d_embed)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}.")
        if self.tied and self.d_embed is not None:
            raise ValueError("a factorised embedding (d_embed) is no table that the unembedding could be tied to.")
        return TokenModel(spec)

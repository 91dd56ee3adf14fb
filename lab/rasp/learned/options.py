"""What fixes a Transformer Program's shape, and where each of its variables lies in the residual stream."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

PAD, BOS, EOS, UNK = "<pad>", "<s>", "</s>", "<unk>"


@dataclass(frozen=True)
class Variable:
    """A named part of the residual stream.

    Attributes:
        name: as in the exported program.
        kind: "categorical", one-hot over `stop − start` values, or "numerical", one number.
        start, stop: its directions are `start … stop − 1`.
    """

    name: str
    kind: Literal["categorical", "numerical"]
    start: int
    stop: int


@dataclass(frozen=True)
class Options:
    """The shape of a Transformer Program (Friedman et al. 2023, section 3).

    Attributes:
        tokens: the vocabulary, `PAD` first.
        classes: what can be answered, `PAD` first; `PAD` itself is never answered.
        n_ctx: longest input in tokens.
        n_layers: blocks.
        d_var: values a categorical variable can take (the paper's k); at least n_ctx, and at least the vocabulary
            unless embeddings are learned.
        n_cat_heads, n_num_heads: categorical and numerical attention heads in each layer.
        n_cat_mlps, n_num_mlps: MLPs in each layer that read categorical and numerical variables.
        d_mlp: hidden neurons of an MLP, which reads two variables.
        n_embeddings: learned categorical variables that a token is embedded in; 0 gives the token itself, frozen.
        causal: whether positions see earlier ones and themselves only.

    Raises:
        ValueError: if a size is out of range or a variable cannot hold the positions or the vocabulary.
    """

    tokens: Sequence[str]
    classes: Sequence[str]
    n_ctx: int
    n_layers: int
    d_var: int
    n_cat_heads: int
    n_num_heads: int
    n_cat_mlps: int
    n_num_mlps: int
    d_mlp: int = 64
    n_embeddings: int = 0
    causal: bool = False

    def __post_init__(self):
        for name in ("n_ctx", "n_layers", "d_var", "d_mlp"):
            _require(name, getattr(self, name), least=1)
        for name in ("n_cat_heads", "n_num_heads", "n_cat_mlps", "n_num_mlps", "n_embeddings"):
            _require(name, getattr(self, name), least=0)
        for name in ("tokens", "classes"):
            words = tuple(getattr(self, name))
            if len(words) < 2 or words[0] != PAD or len(set(words)) < len(words):
                raise ValueError(f"{name} must be different words, {PAD!r} first and one more at least, not {words}.")
            object.__setattr__(self, name, words)
        needed = max(self.n_ctx, 0 if self.n_embeddings else len(self.tokens))
        if self.d_var < needed:
            what = "positions and the vocabulary" if not self.n_embeddings else "positions"
            raise ValueError(f"d_var={self.d_var} cannot hold the {what}: it must be at least {needed}.")

    @property
    def n_inputs(self) -> int:
        """Categorical variables before the first layer: what stands for the token, and the position."""
        return (self.n_embeddings or 1) + 1

    @property
    def n_written(self) -> int:
        """Categorical variables that a layer adds."""
        return self.n_cat_heads + self.n_cat_mlps + self.n_num_mlps

    @property
    def n_categorical(self) -> int:
        """Categorical variables at the end."""
        return self.n_inputs + self.n_layers * self.n_written

    @property
    def d_model(self) -> int:
        """Width of the residual stream: all variables side by side."""
        return self.n_categorical * self.d_var + 1 + self.n_layers * self.n_num_heads

    @cached_property
    def variables(self) -> tuple[Variable, ...]:
        """Every variable in the order in which they lie in the stream: categorical ones first, then numerical ones."""
        inputs = [f"embedding_{i}" for i in range(self.n_embeddings)] or ["tokens"]
        categorical, numerical = [*inputs, "positions"], ["ones"]
        for layer in range(self.n_layers):
            for module, count in (("attn", self.n_cat_heads), ("mlp", self.n_cat_mlps), ("num_mlp", self.n_num_mlps)):
                categorical += [f"{module}_{layer}_{i}" for i in range(count)]
            numerical += [f"num_attn_{layer}_{i}" for i in range(self.n_num_heads)]
        k, first = self.d_var, self.n_categorical * self.d_var
        return (
            *(Variable(name, "categorical", i * k, (i + 1) * k) for i, name in enumerate(categorical)),
            *(Variable(name, "numerical", first + i, first + i + 1) for i, name in enumerate(numerical)),
        )

    def categorical_before(self, layer: int) -> int:
        """How many categorical variables a layer finds."""
        return self.n_inputs + layer * self.n_written

    def numerical_before(self, layer: int) -> int:
        """How many numerical variables a layer finds."""
        return 1 + layer * self.n_num_heads


def _require(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}.")

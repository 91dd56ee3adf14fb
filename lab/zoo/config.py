"""The description of a composed model: its parts, its start, and the same under TransformerLens' field names."""

from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal

import torch
from torch import nn

from microtome.lab.zoo.parts import DepthPart, FeedForwardPart, MixerPart, NormPart, PositionPart, Shape
from microtome.lab.zoo.positions.learned import LearnedPosition


@dataclass(frozen=True)
class Init:
    """How parameters start.

    Attributes:
        law: `fan_in` leaves each layer's own start, U(±1/√fan_in) for weights and biases of linear maps; `normal` and
            `truncated` (at two standard deviations) give linear and convolution weights N(0, std²) and zero biases.
        std: standard deviation of weights under the last two.
        embed_std: standard deviation of token embeddings and position tables under the last two.
    """

    law: Literal["fan_in", "normal", "truncated"] = "fan_in"
    std: float = 0.02
    embed_std: float = 0.02

    def apply(self, model: nn.Module) -> None:
        """Starts every linear, convolution and embedding layer, in order, from torch's current generator."""
        if self.law == "fan_in":
            return
        draw = nn.init.normal_ if self.law == "normal" else _truncated
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                draw(module.weight, std=self.std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding | LearnedPosition):
                draw(module.weight, std=self.embed_std)


def _truncated(weight: torch.Tensor, std: float) -> None:
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


@dataclass(frozen=True)
class Spec:
    """Everything that decides a composed model, parameters included (through `seed`)."""

    shape: Shape
    stem: Any
    mixer: MixerPart
    position: PositionPart
    norm: NormPart
    feedforward: FeedForwardPart
    depth: DepthPart
    init: Init
    seed: int

    @property
    def mixers(self) -> list[MixerPart]:
        """The mixer of each layer, as the depth policy has it."""
        return self.depth.mixers(self.mixer, self.shape.n_layers)

    def describe(self) -> dict[str, Any]:
        """Plain values that `zoo.sequence(**spec.describe())` turns into the same model; fit for JSON."""
        slots = {s: described(getattr(self, s)) for s in ("stem", "mixer", "position", "norm", "feedforward", "depth")}
        sizes = {k: v for k, v in asdict(self.shape).items() if k != "rotary"}
        return {**slots, "init": asdict(self.init), **sizes, "seed": self.seed}


def part_name(part: Any) -> str:
    """The name of a part: that of the file which declares it."""
    return type(part).__module__.rsplit(".", 1)[-1]


def described(part: Any) -> dict[str, Any]:
    """A part as `{"name": …, option: …}`, parts within parts likewise."""
    return {"name": part_name(part), **{f.name: _plain(getattr(part, f.name)) for f in fields(part)}}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return described(value) if is_dataclass(value) else value


@dataclass
class LensConfig:
    """A composed model under the field names that TransformerLens' tools read."""

    n_layers: int
    n_heads: int
    d_model: int
    d_head: int | None
    d_mlp: int | None
    n_ctx: int
    act_fn: str
    normalization_type: str | None
    positional_embedding_type: str
    attention_dir: str
    attn_only: bool
    d_vocab: int = -1
    d_vocab_out: int = -1
    n_key_value_heads: int | None = None
    eps: float = 1e-5
    final_rms: bool = False
    use_attn_result: bool = False
    use_split_qkv_input: bool = False
    use_attn_in: bool = False
    use_hook_mlp_in: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    model_name: str = "microtome"

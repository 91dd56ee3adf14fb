"""A composed token model as TransformerLens' own `TransformerBridge`, with the same outputs.

TransformerLens' native model knows pre-norm blocks with LayerNorm, RMSNorm or none, softmax attention, GELU, ReLU and
SwiGLU, learned or rotary positions. Whatever else a model has is refused by name.
"""

import torch
from transformer_lens import TransformerBridge, TransformerBridgeConfig

from microtome.lab.zoo.config import part_name
from microtome.lab.zoo.stems.tokens import TokenModel

_ACTIVATIONS = {"relu": "relu", "swiglu": "silu", "none": "gelu"}
_NORMS = {"layernorm": "LN", "rmsnorm": "RMS", "none": None}
_POSITIONS = {"learned": "standard", "rope": "rotary"}


def to_bridge(model: TokenModel) -> TransformerBridge:
    """A bridge that holds copies of the model's weights and gives its logits to rounding.

    Raises:
        ValueError: naming the first part that TransformerLens' native model cannot hold.
    """
    parameter = next(model.parameters())
    bridge = TransformerBridge.boot_native(_config(model), device=parameter.device, dtype=parameter.dtype)
    wanted = bridge.state_dict()
    weights = {_theirs(name): p.detach() for name, p in model.state_dict().items() if _theirs(name) in wanted}
    # The native model has a bias everywhere but in gated layers; a part without one has a bias of zero.
    zeros = {name: torch.zeros_like(p) for name, p in wanted.items() if name.endswith("bias") and name not in weights}
    bridge.load_state_dict({**weights, **zeros})
    return bridge.eval()


def _theirs(name: str) -> str:
    return name.replace(".mlp.in_.", ".mlp.in.")


def _config(model: TokenModel) -> TransformerBridgeConfig:
    spec, cfg = model.spec, model.cfg
    names = {slot: part_name(getattr(spec, slot)) for slot in ("mixer", "position", "norm", "feedforward")}
    _refuse_unless("mixer", names["mixer"], ("softmax",))
    _refuse_unless("position", names["position"], _POSITIONS)
    _refuse_unless("norm", names["norm"], _NORMS)
    _refuse_unless("norm placement", spec.norm.placement, ("pre", "none"))
    _refuse_unless("feedforward", names["feedforward"], ("gelu", *_ACTIVATIONS))
    if spec.norm.placement == "pre" and not spec.norm.final:
        raise ValueError(
            "TransformerLens' native model normalises the end of the stream; this model does not (final=False)."
        )
    if spec.mixer.fused_qkv:
        raise ValueError(
            "TransformerLens' native model has separate q, k and v; this model's are fused (fused_qkv=True)."
        )
    if names["feedforward"] == "swiglu" and spec.feedforward.bias:
        raise ValueError("TransformerLens' native gated feed-forward has no biases; this model's has (bias=True).")
    act = _ACTIVATIONS.get(names["feedforward"], "gelu")
    if names["feedforward"] == "gelu":
        act = "gelu_new" if spec.feedforward.approximate == "tanh" else "gelu"
    options = (
        {"rotary_dim": spec.position.rotary_dim, "rotary_base": spec.position.base}
        if names["position"] == "rope"
        else {}
    )
    scale = model.blocks[0].attn.scale
    unscaled = (
        {"use_attn_scale": False} if scale == cfg.d_head**-0.5 else {"use_attn_scale": True, "attn_scale": 1 / scale}
    )
    return TransformerBridgeConfig(
        d_model=cfg.d_model,
        d_head=cfg.d_head,
        n_layers=cfg.n_layers,
        n_heads=cfg.n_heads,
        n_ctx=cfg.n_ctx,
        d_vocab=cfg.d_vocab,
        d_mlp=cfg.d_mlp,
        attn_only=cfg.attn_only,
        act_fn=act,
        gated_mlp=names["feedforward"] == "swiglu",
        normalization_type=_NORMS[names["norm"]],
        eps=getattr(spec.norm, "eps", 1e-5),
        positional_embedding_type=_POSITIONS[names["position"]],
        attention_dir=cfg.attention_dir,
        seed=0,
        **options,
        **unscaled,
    )


def _refuse_unless(slot: str, name: str, allowed) -> None:
    if name not in allowed:
        raise ValueError(
            f"TransformerLens' native model has no {slot} {name!r}; it can hold {', '.join(map(str, allowed))}."
        )

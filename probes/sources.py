"""Where a model's row entropies are read: at the mixers' own readings, or made from hooked queries and keys.

A model of the lab makes `hook_row_entropy` when asked, with its masks, biases and rotations taken into account. Any
other HookedRootModule, a TransformerBridge among them, is read at `hook_q` and `hook_k`, whose row entropies come from
the blockwise kernel; neither way makes an n × n matrix.
"""

import re
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.kernels.softmax import row_entropy
from microtome.kernels.spectral import product_norm
from microtome.lab.zoo.points import observer

Sink = Callable[[int, Tensor], None]
"""Takes a layer and its row entropies [batch head query], in nats."""
Hook = tuple[str, Callable[..., Any]]


def entropy_hooks(model: nn.Module, sink: Sink) -> list[Hook]:
    """Forward hooks that send each layer's row entropies to the sink during a forward pass.

    Raises:
        ValueError: if the model has neither readings nor queries and keys, or adds something else to its scores.
    """
    readings = [n for n in model.hook_dict if n.endswith("hook_row_entropy")]
    if readings:
        return [(n, observer(lambda t, hook: sink(layer_of(hook.name), t))) for n in readings]
    return _from_queries_and_keys(model, sink)


def _from_queries_and_keys(model: nn.Module, sink: Sink) -> list[Hook]:
    kind = str(getattr(model.cfg, "positional_embedding_type", "standard")).lower()
    rotated = "rotary" in kind
    if not rotated and kind not in ("standard", "learned", "sinusoidal", "none"):
        raise ValueError(
            f"position type {kind!r} adds to the scores, so queries and keys alone do not give the entropy."
        )
    query, key = ("hook_rot_q", "hook_rot_k") if rotated else ("hook_q", "hook_k")
    pattern = re.compile(rf"blocks\.(\d+)\.attn\.{query}")
    layers = [int(m[1]) for n in model.hook_dict if (m := pattern.fullmatch(n))]
    if not layers:
        raise ValueError(f"the model has no hook_row_entropy, and no blocks.*.attn.{query} to make entropies from.")
    causal = getattr(model.cfg, "attention_dir", "causal") == "causal"
    held: dict[int, Tensor] = {}

    def on_query(tensor: Tensor, hook: Any, layer: int) -> None:
        held[layer] = tensor.detach()

    def on_key(tensor: Tensor, hook: Any, layer: int) -> None:
        q, k = held.pop(layer).transpose(1, 2), tensor.detach().transpose(1, 2)
        with torch.no_grad():
            sink(layer, row_entropy(q, k, causal=causal))

    hooks: list[Hook] = []
    for layer in layers:
        at = f"blocks.{layer}.attn."
        hooks.append((at + query, observer(lambda t, hook, layer=layer: on_query(t, hook, layer))))
        hooks.append((at + key, observer(lambda t, hook, layer=layer: on_key(t, hook, layer))))
    return hooks


def layer_of(name: str) -> int:
    """The layer that a hook name `blocks.{i}.…` belongs to."""
    found = re.search(r"blocks\.(\d+)\.", name)
    if found is None:
        raise ValueError(f"{name} does not say which layer it belongs to.")
    return int(found[1])


def uniform_entropy(n: int, causal: bool) -> float:
    """Mean entropy in nats over the n rows of attention that is uniform over what each row may see."""
    if not causal:
        return float(torch.tensor(float(n)).log())
    return float(torch.arange(1, n + 1, dtype=torch.float64).log().mean())


def score_norms(model: nn.Module) -> Float[Tensor, "layer head"]:
    """Spectral norm of W_Q W_Kᵀ of every layer and head, in the model's dtype.

    NaN where a layer has no queries and keys whose product is a score.
    """
    return torch.stack([_score_norm(model, block) for block in model.blocks])


def _score_norm(model: nn.Module, block: nn.Module) -> Float[Tensor, " head"]:
    mixer = getattr(block, "attn", None) or getattr(block, "mixer", None)
    weights = [getattr(mixer, name, None) for name in ("W_Q", "W_K")]
    if any(weight is None for weight in weights):
        n_heads = getattr(mixer, "n_heads", model.cfg.n_heads)
        return torch.full((n_heads,), torch.nan, dtype=model.cfg.dtype, device=model.cfg.device)
    return product_norm(*(weight.detach() for weight in weights))

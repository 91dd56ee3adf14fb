"""Merging RepBN into its neighbours (Guo et al. 2024, "SLAB", section 3.1, slug `slab`): one function, no norms.

In evaluation mode RepBN is z ↦ a·z + b channel by channel. A linear map W z + d after it becomes W·diag(a), d + W b; a
convolution before it, with kernel rows W and bias d, becomes a·W, a·d + b. Every norm of a pre-norm model stands before
linear maps: queries, keys and values, the feed-forward's first, and the readout, which commutes with a mean over
positions.
"""

from dataclasses import fields, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.zoo.compose import sequence
from microtome.lab.zoo.feedforward._mlp import MLP, GatedMLP
from microtome.lab.zoo.mixers.slab import SlabMixer
from microtome.lab.zoo.mixers.softmax import SoftmaxMixer
from microtome.lab.zoo.norms import none, prepbn, repbn
from microtome.lab.zoo.parts import Mixer
from microtome.lab.zoo.transformer import SequenceModel

Channel = Float[Tensor, " channel"]


def merge(model: SequenceModel) -> SequenceModel:
    """A model without norms that computes in evaluation mode what this one does there; the given one is left alone.

    Maps that had no bias get one, where a norm's b goes.

    Raises:
        ValueError: unless the norm is RepBN or PRepBN before each sub-layer, every reader of a norm is known to be
            linear, and no two maps share a weight.
    """
    spec = model.spec
    if not isinstance(spec.norm, repbn.Part | prepbn.Part) or spec.norm.placement != "pre":
        raise ValueError(
            "only RepBN and PRepBN in front of each sub-layer can be merged, not another norm or placement."
        )
    _refuse_shared(model)
    biased = {slot: _with_bias(getattr(spec, slot)) for slot in ("mixer", "feedforward", "stem")}
    bare = sequence(**replace(spec, norm=none.Part(), **biased).describe())
    parameter = next(model.parameters())
    bare = bare.to(device=parameter.device, dtype=parameter.dtype)
    state = {**_zero_biases(bare), **_without_norms(model)}
    for norm, readers in _readers(model):
        for reader in readers:
            into_following(state, reader, *_affine(norm))
    bare.load_state_dict(state)
    return bare


def into_following(state: dict[str, Tensor], name: str, a: Channel, b: Channel) -> None:
    """Lets the linear map `name` of a state dictionary take in a·z + b that stood before it.

    Raises:
        ValueError: if the map has no bias for b to go.
    """
    if f"{name}.bias" not in state:
        raise ValueError(f"{name} has no bias, which merging needs; give its part bias=True.")
    weight = state[f"{name}.weight"]
    state[f"{name}.bias"] = state[f"{name}.bias"] + weight @ b
    state[f"{name}.weight"] = weight * a


def into_preceding(
    weight: Float[Tensor, " channel *kernel"], bias: Channel, a: Channel, b: Channel
) -> tuple[Float[Tensor, " channel *kernel"], Channel]:
    """Weight and bias of a convolution or linear map that takes in a·z + b that stood after it."""
    return weight * a.view(-1, *[1] * (weight.ndim - 1)), a * bias + b


def _affine(norm: nn.Module) -> tuple[Channel, Channel]:
    rep = norm.rep if isinstance(norm, prepbn.PRepBN) else norm
    a, b = rep.affine()
    return a.detach(), b.detach()


def _readers(model: SequenceModel) -> list[tuple[nn.Module, list[str]]]:
    """Each norm with the names of the linear maps that read it."""
    found = []
    for i, block in enumerate(model.blocks):
        mixer = [f"blocks.{i}.{block.slot}.{name}" for name in _inputs(block.mixing)]
        found.append((block.ln1, mixer))
        if block.mlp is not None:
            found.append((block.ln2, [f"blocks.{i}.mlp.{name}" for name in _inputs(block.mlp)]))
    return [*found, (model.ln_final, ["unembed"])] if model.spec.norm.final else found


def _inputs(part: Mixer | nn.Module) -> tuple[str, ...]:
    if type(part) in (MLP, GatedMLP):
        return ("in_", "gate") if type(part) is GatedMLP else ("in_",)
    if isinstance(part, SoftmaxMixer):
        return ("qkv",) if part.fused_qkv else ("q", "k", "v")
    if isinstance(part, SlabMixer):
        return ("q", "k", "v")
    raise ValueError(f"{type(part).__name__} reads its norm by more than linear maps, so that it cannot take it in.")


def _refuse_shared(model: nn.Module) -> None:
    names: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in names:
            raise ValueError(
                f"{names[id(parameter)]} and {name} are one tensor, which cannot take in two different norms."
            )
        names[id(parameter)] = name


def _with_bias(part: Any) -> Any:
    options = {f.name for f in fields(part)}
    return replace(part, **{name: True for name in ("bias", "unembed_bias") if name in options})


def _zero_biases(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.new_zeros(value.shape) for name, value in model.state_dict().items() if name.endswith(".bias")}


def _without_norms(model: SequenceModel) -> dict[str, Tensor]:
    norms = (repbn.RepBN, prepbn.PRepBN)
    prefixes = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, norms))
    return {name: value.clone() for name, value in model.state_dict().items() if not name.startswith(prefixes)}

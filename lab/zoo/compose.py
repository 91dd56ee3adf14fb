"""Composing a model out of parts, and building a paper's whole system."""

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any

import torch

from microtome.lab.spelling import near
from microtome.lab.zoo import registry
from microtome.lab.zoo.block import BLOCKS
from microtome.lab.zoo.config import Init, Spec, part_name
from microtome.lab.zoo.contract import HookedModel
from microtome.lab.zoo.parts import MixerPart, Shape
from microtome.lab.zoo.transformer import SequenceModel

Choice = str | Mapping[str, Any] | Any
"""A part: its name, a mapping `{"name": …, option: …}`, or its options object."""


def sequence(
    *,
    stem: Choice = None,
    mixer: Choice = "softmax",
    position: Choice = "learned",
    norm: Choice = "layernorm",
    feedforward: Choice = "gelu",
    depth: Choice = "plain",
    init: str | Mapping[str, Any] | Init = "fan_in",
    d_model: int = 64,
    n_layers: int = 2,
    n_heads: int = 4,
    n_ctx: int | None = None,
    causal: bool | None = None,
    d_vocab: int | None = None,
    dim: int | None = None,
    seed: int = 0,
) -> SequenceModel:
    """A model composed of the named parts, with a HookedRootModule's calls and TransformerLens' hook names.

    Args:
        stem: `tokens`, `regression` or `grid`; may be left out when `d_vocab` or `dim` says which.
        mixer, position, norm, feedforward, depth: the part in each slot; `zoo.names(slot)` lists them.
        init: how parameters start, see `Init`.
        d_model, n_layers, n_heads: width of the stream, number of blocks, heads a block.
        n_ctx: longest input in positions (a regression prompt has two a point); default 128, or what an image gives.
        causal: whether positions see earlier ones only; default True, and False for images.
        d_vocab: short for `stem={"name": "tokens", "d_vocab": …}`.
        dim: short for `stem={"name": "regression", "dim": …}`.
        seed: of the parameters; the default generator is left as it was.

    Raises:
        ValueError: for an unknown part or option, with near names, and for parts that do not fit together, saying why.
    """
    stem = _stem(stem, d_vocab, dim)
    grid = part_name(stem) == "grid"
    if n_ctx is None:
        n_ctx = stem.n_positions if grid else 128
    causal = (not grid) if causal is None else causal
    for name, value in {"d_model": d_model, "n_heads": n_heads, "n_ctx": n_ctx, "n_layers": n_layers}.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}.")
    chosen = {
        "mixer": choose("mixers", mixer),
        "position": choose("positions", position),
        "norm": choose("norms", norm),
        "feedforward": choose("feedforward", feedforward),
        "depth": choose("depth", depth),
    }
    rotary = "rotation" in chosen["position"].provides
    shape = Shape(d_model, n_layers, n_heads, n_ctx, causal, rotary)
    return _build(Spec(shape, stem, **chosen, init=_init(init), seed=seed))


def build(slug: str, variant: str | None = None, **overrides: Any) -> HookedModel:
    """A paper's whole system at a published size.

    Args:
        slug: the paper's, as `zoo.papers()` lists it.
        variant: one of the paper's named sizes; None gives its first.
        overrides: what to change of it, as the paper's module documents.

    Raises:
        KeyError: for an unknown paper. ValueError: for a paper without a system here, or an unknown variant.
    """
    paper = registry.paper(slug)
    module = registry.system(paper)
    variants = () if module is None else tuple(module.VARIANTS)
    if not variants:
        raise ValueError(f"{slug} ({paper.title}) has no whole system here yet; `microtome papers` says what stands.")
    if variant is not None and variant not in variants:
        raise ValueError(
            f"{slug} has no variant {variant!r}{near(variant, variants)}; there are {', '.join(variants)}."
        )
    return module.VARIANTS[variant or variants[0]](**overrides)


def choose(slot: str, choice: Choice) -> Any:
    """The options object that a choice stands for.

    Raises:
        ValueError: for an unknown name or option. TypeError: for a choice of another kind.
    """
    if is_dataclass(choice) and not isinstance(choice, type):
        return choice
    if isinstance(choice, str):
        choice = {"name": choice}
    if not isinstance(choice, Mapping) or "name" not in choice:
        raise TypeError(f"a part of {slot} is a name, a mapping with a name, or an options object, not {choice!r}.")
    part = registry.load(slot, choice["name"]).Part
    options = {k: v for k, v in choice.items() if k != "name"}
    allowed = [f.name for f in fields(part)]
    for option, value in options.items():
        if option not in allowed:
            there = f"its options are {', '.join(allowed)}" if allowed else "it has no options"
            raise ValueError(f"{choice['name']} has no option {option!r}{near(option, allowed)}; {there}.")
        inner = getattr(part, "slots", {}).get(option)
        if inner is not None:
            options[option] = tuple(choose(inner, each) for each in value)
        elif isinstance(value, Mapping) and "name" in value:
            options[option] = choose(slot, value)
        elif isinstance(value, list):
            options[option] = tuple(value)
    return part(**options)


def _stem(stem: Choice, d_vocab: int | None, dim: int | None) -> Any:
    short = {"d_vocab": ("tokens", d_vocab), "dim": ("regression", dim)}
    given = {k: v for k, v in short.items() if v[1] is not None}
    if len(given) > 1:
        raise ValueError("d_vocab asks for a token stem and dim for a regression stem: give one of them.")
    if not given:
        if stem is None or stem in ("tokens", "regression"):
            raise ValueError(
                "say what goes in: d_vocab=… for tokens, dim=… for (x, y) prompts, or stem='grid' for images."
            )
        return choose("stems", stem)
    ((option, (name, value)),) = given.items()
    if stem not in (None, name):
        raise ValueError(f"{option}={value} belongs to the stem {name!r}, not to {stem!r}.")
    return choose("stems", {"name": name, option: value})


def _init(init: str | Mapping[str, Any] | Init) -> Init:
    if isinstance(init, Init):
        return init
    options = {"law": init} if isinstance(init, str) else dict(init)
    laws = ("fan_in", "normal", "truncated")
    if options.get("law", "fan_in") not in laws or not set(options) <= set(asdict(Init())):
        raise ValueError(f"init is one of {', '.join(laws)}, with std and embed_std, not {init!r}.")
    return Init(**options)


def _build(spec: Spec) -> SequenceModel:
    """Refuses parts that do not fit, then builds under a forked generator so that the default one is left alone."""
    if spec.norm.placement not in BLOCKS:
        raise ValueError(f"a norm's placement is one of {', '.join(BLOCKS)}, not {spec.norm.placement!r}.")
    for mixer in dict.fromkeys(spec.mixers):
        _check_mixer(mixer, spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        return spec.stem.build(spec)


def _check_mixer(part: MixerPart, spec: Spec) -> None:
    mixer, position = part_name(part), part_name(spec.position)
    provided, taken = spec.position.provides, part.takes
    if not provided <= taken:
        raise ValueError(
            f"mixer {mixer!r} cannot use position {position!r}, which gives "
            f"{' and '.join(sorted(provided - taken))}; "
            f"it takes positions that give {' or '.join(sorted(taken))}, or none."
        )
    if part.causal_only and not spec.shape.causal:
        raise ValueError(f"mixer {mixer!r} reads from left to right, so that it needs causal=True.")
    if part.bidirectional_only and spec.shape.causal:
        raise ValueError(f"mixer {mixer!r} looks at the whole input, so that it needs causal=False.")
    if part is not spec.mixer and type(part).shared is not MixerPart.shared:
        raise ValueError(f"mixer {mixer!r} shares a module between all layers, so that it cannot stand in some only.")
    if spec.shape.rotary:
        _check_rotation(part, spec)


def _check_rotation(part: MixerPart, spec: Spec) -> None:
    width = part.head_width(spec.shape)
    turned = width if spec.position.rotary_dim is None else spec.position.rotary_dim
    if turned % 2 or not 0 < turned <= width:
        raise ValueError(
            f"rotary positions turn pairs of dimensions: rotary_dim={turned} must be even, above 0 and at most the "
            f"head's width {width}."
        )

"""The composable transformer: a stem, positions, blocks and a final norm under the house's contract."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from microtome.lab.zoo.block import BLOCKS, NOT_ADDITIVE
from microtome.lab.zoo.config import LensConfig, Spec, part_name
from microtome.lab.zoo.contract import HookedModel
from microtome.lab.zoo.norms._batch import batch_norms
from microtome.lab.zoo.parts import Context, Effective, Mixer
from microtome.lab.zoo.points import Point, Reading

Stream = Float[Tensor, "batch pos d_model"]
LENS_NORMS = {"layernorm": "LN", "rmsnorm": "RMS", "simple_rmsnorm": "RMS"}


class SequenceModel(HookedModel):
    """Base of the composed models; a stem's subclass says how inputs enter and what is read off.

    A subclass calls `_through` between, and `_finish` at the end of its `__init__`.
    """

    n_out: int = -1
    """Width of the readout."""

    def __init__(self, spec: Spec):
        super().__init__()
        self.spec = spec
        self.hook_embed = Point("batch pos d_model", "write")
        self.pos_embed = spec.position.build(spec.shape)
        if "embedding" in spec.position.provides:
            self.hook_pos_embed = Point("batch pos d_model", "write")
        self.shared_mixer = spec.mixer.shared(spec.shape)
        block = BLOCKS[spec.norm.placement]
        self.blocks = nn.ModuleList(spec.depth.blocks(lambda mixer: block(spec, mixer), spec.mixers))
        self.ln_final = spec.norm.build(spec.shape.d_model) if spec.norm.final else nn.Identity()

    def _finish(self) -> None:
        """Starts the parameters, lets the norm act on the whole model, and names the points."""
        self.spec.init.apply(self)
        self.spec.norm.finish(self)
        self.setup()
        tail = [*self.blocks[-1:], self.ln_final]
        points = [m for part in tail for m in part.modules() if isinstance(m, Point)]
        self._tail_points = [p for p in points if not isinstance(p, Reading)]
        self._batch_norms = batch_norms(self)
        self.eval()

    def mixers(self) -> list[Mixer]:
        """The token mixer of each layer."""
        return [block.mixing for block in self.blocks]

    def absent(self) -> Mapping[str, str]:
        reasons = {}
        placement, attn_only = self.spec.norm.placement, self.blocks[0].mlp is None
        for i, block in enumerate(self.blocks):
            reasons |= {f"blocks.{i}.{block.slot}.{n}": why for n, why in block.mixing.absent.items()}
            if placement in NOT_ADDITIVE:
                reasons[f"blocks.{i}.hook_resid_mid"] = NOT_ADDITIVE[placement]
            elif attn_only:
                reasons[f"blocks.{i}.hook_resid_mid"] = (
                    "the block has no feed-forward, so hook_resid_post is that tensor"
                )
            if attn_only:
                reasons[f"blocks.{i}.hook_mlp_out"] = "the block has no feed-forward"
        if "embedding" not in self.spec.position.provides:
            reasons["hook_pos_embed"] = f"position {part_name(self.spec.position)!r} adds nothing to the stream"
        return reasons

    @property
    def longest(self) -> int | None:
        """The longest input that positions and mixers can take, or None for any."""
        bounds = [part.longest for part in (self.pos_embed, *self.mixers()) if part.longest is not None]
        return min(bounds) if bounds else None

    def _context(self, n: int, mask: Bool[Tensor, "batch pos"] | None, device: torch.device) -> Context:
        longest = self.longest
        if longest is not None and n > longest:
            raise ValueError(f"the input has {n} positions; this model takes at most {longest} (n_ctx).")
        bias = self.pos_embed.bias(torch.arange(n, device=device), n)
        return Context(self.pos_embed, n, mask, bias, shared=self.shared_mixer)

    def _through(
        self,
        embedded: Stream,
        *,
        mask: Bool[Tensor, "batch pos"] | None = None,
        read: slice | None = None,
        stop_at_layer: int | None = None,
    ) -> Float[Tensor, "batch read d_model"]:
        """The stream from embeddings to the final norm.

        `read` names the positions that the stem will look at. In training mode, when no hook watches a tensor of the
        last block or of the final norm, that block computes queries and feed-forward at those positions only, with
        the same values to rounding. Readings stay of all positions, and watching them changes no bit.
        """
        if mask is not None and mask.shape != embedded.shape[:2]:
            raise ValueError(f"mask must be [batch, pos] = {list(embedded.shape[:2])}, not {list(mask.shape)}.")
        n = embedded.shape[1]
        for norm in self._batch_norms:
            norm.mask = mask
        context = self._context(n, mask, embedded.device)
        x = self.hook_embed(embedded)
        position = self.pos_embed.embedding(n)
        if position is not None:
            x = x + (self.hook_pos_embed(position.expand_as(x)) if self.hook_pos_embed.watched else position)
        stop = len(self.blocks) if stop_at_layer is None else self._layer(stop_at_layer)
        skip = read is not None and stop_at_layer is None and len(self.blocks) > 0 and self._may_skip()
        x = self.spec.depth.through(self.blocks[: stop - skip], x, context)
        if skip:
            x = self.blocks[-1](x, context.narrowed(read))
        if stop_at_layer is not None:
            return x
        x = self.ln_final(x)
        return x if read is None or skip else x[:, read]

    def _layer(self, stop_at_layer: int) -> int:
        depth = len(self.blocks)
        if not -depth <= stop_at_layer <= depth:
            raise ValueError(f"stop_at_layer must lie between {-depth} and {depth}, not {stop_at_layer}.")
        return stop_at_layer % depth if stop_at_layer < 0 else stop_at_layer

    def _may_skip(self) -> bool:
        # Batch statistics are those of all positions, so that none may be left out.
        lean = self.training and self.blocks[-1].mixing.skips_rows and not self._batch_norms
        return lean and self.spec.depth.sequential and not any(p.watched for p in self._tail_points)

    def effective_attention(self, *inputs: Tensor, **options) -> list[Effective]:
        """Each layer's mixer written as attention on these inputs (`Effective`), in order of depth, no gradient."""
        seen: dict[int, tuple[Tensor, Context]] = {}
        handles = [
            mixer.register_forward_pre_hook(lambda _, args, i=i: seen.__setitem__(i, args))
            for i, mixer in enumerate(self.mixers())
        ]
        try:
            with (
                torch.no_grad(),
                self.stats(self._tail_points[-1].name, lambda *_: None),
            ):  # all rows of every layer
                self(*inputs, **options)
                return [mixer.effective_attention(*seen[i]) for i, mixer in enumerate(self.mixers())]
        finally:
            for handle in handles:
                handle.remove()

    @property
    def cfg(self) -> LensConfig:
        """The model under TransformerLens' field names; device and dtype are those of the parameters now."""
        spec, shape, mlp = self.spec, self.spec.shape, self.blocks[0].mlp
        parameter = next(self.parameters())
        norm = part_name(spec.norm)
        return LensConfig(
            n_layers=len(self.blocks),
            n_heads=shape.n_heads,
            d_model=shape.d_model,
            d_head=self.blocks[0].mixing.d_head,
            d_mlp=None if mlp is None else mlp.d_mlp,
            n_ctx=shape.n_ctx,
            act_fn=part_name(spec.feedforward),
            normalization_type=LENS_NORMS.get(norm) if spec.norm.placement == "pre" else None,
            positional_embedding_type=part_name(spec.position),
            attention_dir="causal" if shape.causal else "bidirectional",
            attn_only=mlp is None,
            d_vocab=self.n_out,
            d_vocab_out=self.n_out,
            device=parameter.device,
            dtype=parameter.dtype,
        )

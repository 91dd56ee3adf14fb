"""The distribution transformer: (prior, data) → (reconstructed prior, posterior), Gaussian mixtures both.

A prior's K components are K tokens and attend to one another; every datapoint is a token that they attend to. There are
no positions, so that neither the order of the components nor that of the data matters, and neither number is fixed.
(Whittle et al. 2025, distribution_transformers, section 4.)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.bayes.gaussian_mixture import GaussianMixture
from microtome.lab.bayes.mixture_tokens import detokenise, token_width, tokenise
from microtome.lab.zoo.block import NOT_ADDITIVE
from microtome.lab.zoo.config import LensConfig
from microtome.lab.zoo.contract import HookedModel
from microtome.lab.zoo.in_context.distribution.blocks import DecoderBlock
from microtome.lab.zoo.in_context.distribution.embeddings import Embedding, ParametricPrior
from microtome.lab.zoo.parts import Shape
from microtome.lab.zoo.points import Point


class Distributions(NamedTuple):
    """What the model says of each problem.

    Attributes:
        prior: the prior as its tokens say it before the first layer; trained to be the prior itself.
        posterior: the answer.
    """

    prior: GaussianMixture
    posterior: GaussianMixture


@dataclass(frozen=True)
class Options:
    """Sizes of a distribution transformer.

    Attributes:
        dim: D, dimensions of x.
        observations: how many numbers a datapoint of each kind has.
        d_model, n_layers, n_heads, d_mlp: of the decoder.
        d_hidden: hidden widths of the embeddings of components and data.
        n_components: K, for priors that are no mixtures; a mixture brings its own.
        parameters: how many numbers each independent factor of such a prior has; None for mixtures.
        d_prior: hidden widths of its first embedding, and of the K that follow.
        floor: mixture weights are clamped to [floor, 1 − floor].

    Raises:
        ValueError: if a size is below 1, n_heads does not divide d_model, or only one of n_components and parameters
            is given.
    """

    dim: int
    observations: tuple[int, ...]
    d_model: int = 32
    n_layers: int = 6
    n_heads: int = 8
    d_mlp: int = 2048
    d_hidden: tuple[tuple[int, ...], tuple[int, ...]] = ((32,), (32,))
    n_components: int | None = None
    parameters: tuple[int, ...] | None = None
    d_prior: tuple[tuple[int, ...], tuple[int, ...]] = ((32, 64), (64, 64))
    floor: float = 1e-6

    def __post_init__(self):
        kinds = self.observations or (0,)
        sizes = (self.dim, *kinds, self.d_model, self.n_layers, self.n_heads, self.d_mlp, *(self.parameters or ()))
        if min(sizes) < 1:
            raise ValueError(f"every size must be at least 1, and there must be a kind of observation: {self}.")
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model={self.d_model} is not divisible by n_heads={self.n_heads}.")
        if (self.parameters is None) != (self.n_components is None):
            raise ValueError("n_components and parameters go together: both for a prior that is no mixture, or none.")


class DistributionTransformer(HookedModel):
    """The model above. Its stream has one position a component; the keys of `cross` are the datapoints.

    Args:
        options: the sizes.
    """

    def __init__(self, options: Options):
        super().__init__()
        self.options = options
        token, d_model = token_width(options.dim), options.d_model
        of_component, of_data = options.d_hidden
        self.embed = Embedding(token, *of_component, d_model)
        self.unembed = Embedding(d_model, *reversed(of_component), token)
        self.embed_prior = self._prior()
        self.observe = nn.ModuleList(Embedding(size, *of_data, d_model) for size in options.observations)
        self.hook_embed = Point("batch pos d_model", "write")
        self.hook_data = Point("batch key d_model", "write")
        shape = Shape(d_model, options.n_layers, options.n_heads, n_ctx=0, causal=False)
        self.blocks = nn.ModuleList(DecoderBlock(shape, options.d_mlp) for _ in range(options.n_layers))
        for block in self.blocks[1:]:  # torch's decoder makes its layers as copies of one
            block.load_state_dict(self.blocks[0].state_dict())
        self.setup()
        self.eval()

    def forward(self, prior: Tensor, *observations: Tensor) -> Distributions:
        """The prior read back and the posterior, in the dtype of the parameters.

        Args:
            prior: tokens of a mixture as `tokenise` makes them, [batch component token], of any number of components;
                or the parameters of the model's family, [batch parameter].
            observations: for each kind the datapoints [batch points size]; a kind may have no points, not all.

        Raises:
            ValueError: if a shape does not fit, there are no data, or a number is not finite.
        """
        self._check(prior, observations)
        x = self.hook_embed(self._embedded(prior))
        seen = [embed(z) for embed, z in zip(self.observe, observations, strict=True)]
        data = self.hook_data(torch.cat(seen, dim=1))
        before = detokenise(self.unembed(x), self.options.dim)
        for block in self.blocks:
            x = block(x, data)
        return Distributions(before, detokenise(self.unembed(x), self.options.dim))

    def posterior(self, prior: GaussianMixture | Tensor, *observations: Tensor) -> GaussianMixture:
        """The answer alone, without gradient, to a mixture or to the parameters of the model's family.

        Raises:
            ValueError: as `forward`, and if the mixture is of another dimension.
        """
        if isinstance(prior, GaussianMixture):
            if prior.dim != self.options.dim:
                raise ValueError(
                    f"the prior is {prior.dim}-dimensional and this model's answers are {self.options.dim}-dimensional."
                )
            prior = tokenise(prior, self.options.floor)
        dtype = self.cfg.dtype
        with torch.no_grad():
            return self(prior.to(dtype), *(z.to(dtype) for z in observations)).posterior

    def absent(self) -> Mapping[str, str]:
        return {f"blocks.{i}.hook_resid_mid": NOT_ADDITIVE["post"] for i in range(len(self.blocks))} | {
            "hook_pos_embed": "components and data are sets: there are no positions"
        }

    @property
    def cfg(self) -> LensConfig:
        """The model under TransformerLens' field names; device and dtype are those of the parameters now."""
        options, parameter = self.options, next(self.parameters())
        return LensConfig(
            n_layers=options.n_layers,
            n_heads=options.n_heads,
            d_model=options.d_model,
            d_head=options.d_model // options.n_heads,
            d_mlp=options.d_mlp,
            n_ctx=-1,
            act_fn="gelu",
            normalization_type=None,
            positional_embedding_type="none",
            attention_dir="bidirectional",
            attn_only=False,
            device=parameter.device,
            dtype=parameter.dtype,
        )

    def _prior(self) -> ParametricPrior | None:
        options = self.options
        if options.parameters is None:
            return None
        return ParametricPrior(options.parameters, options.n_components, options.d_model, *options.d_prior)

    def _embedded(self, prior: Tensor) -> Float[Tensor, "batch component d_model"]:
        if self.embed_prior is not None:
            return self.embed_prior(prior)
        most = torch.logit(torch.tensor(1 - self.options.floor, dtype=torch.float64)).item()
        return self.embed(torch.cat([prior[..., :1].clamp(-most, most), prior[..., 1:]], dim=-1))

    def _check(self, prior: Tensor, observations: tuple[Tensor, ...]) -> None:
        options = self.options
        if options.parameters is None:
            wanted = f"[batch component token={token_width(options.dim)}]"
            fits = prior.ndim == 3 and prior.shape[-1] == token_width(options.dim) and prior.shape[1] > 0
        else:
            wanted, fits = f"[batch parameter={sum(options.parameters)}]", prior.ndim == 2
            fits = fits and prior.shape[-1] == sum(options.parameters)
        if not fits:
            raise ValueError(f"the prior must be {wanted}, not {list(prior.shape)}.")
        if len(observations) != len(options.observations):
            raise ValueError(
                f"this model takes {len(options.observations)} kinds of observation, not {len(observations)}."
            )
        for i, (z, size) in enumerate(zip(observations, options.observations, strict=True)):
            if z.ndim != 3 or len(z) != len(prior) or z.shape[-1] != size:
                raise ValueError(
                    f"observations of kind {i} must be [batch={len(prior)} points size={size}], not {list(z.shape)}."
                )
        if sum(z.shape[1] for z in observations) == 0:
            raise ValueError("a posterior needs at least one datapoint, of whatever kind.")
        for name, tensor in (("the prior", prior), *((f"kind {i}", z) for i, z in enumerate(observations))):
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{name} must be finite, but holds an infinity or a NaN.")

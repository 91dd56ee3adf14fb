"""Giving a trained full-attention model mixed attention spans (Zhang et al. 2023, slug `masformer`).

No parameter and no name changes; what the sparse layers lose is to be trained back on long sequences.
"""

from dataclasses import replace

from microtome.lab.zoo.compose import sequence
from microtome.lab.zoo.depth import masformer, plain
from microtome.lab.zoo.transformer import SequenceModel


def convert(model: SequenceModel, policy: masformer.Part) -> SequenceModel:
    """A model with these parameters, copied, and this policy.

    Raises:
        ValueError: for a model whose layers are not all full softmax attention with weights of their own.
    """
    spec = model.spec
    if not isinstance(spec.depth, plain.Part | masformer.Part):
        raise ValueError("only a model of depth 'plain' or 'masformer' can be given mixed attention spans.")
    mixed = sequence(**replace(spec, depth=policy).describe())
    parameter = next(model.parameters())
    mixed = mixed.to(device=parameter.device, dtype=parameter.dtype)
    mixed.load_state_dict(model.state_dict())
    return mixed.train(model.training)

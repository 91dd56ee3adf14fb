"""Pass 6: layers over named directions become the matrices of a pre-norm transformer without norm.

Every sequence starts with the sink. What the stream holds there is the same on every input and known here (`state`):
each head's sink attends to itself and writes its default, and no neuron fires. Whatever the sink's keys, queries and
values would be by that state is corrected through the weights of the sink's own direction.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.rasp.compiler.heads import ABSENT, UNSELECTED
from microtome.lab.rasp.compiler.infer import Inference
from microtome.lab.rasp.compiler.layout import SINK, Layout
from microtome.lab.rasp.compiler.operations import Head, Neurons
from microtome.lab.rasp.compiler.schedule import Layer
from microtome.lab.rasp.errors import CompileError
from microtome.lab.rasp.language import Indices, SOp, Tokens

TIER = math.ceil(150 * math.log(2))
"""Nats between two tiers of scores. exp(−TIER) is under half of float32's smallest number 2^−149, so whatever lies a
tier below the highest score gets attention 0, whatever the length and the values: no leakage is left to bound."""

MAX_PARAMETERS = 2**28
"""Largest model that is built, a gibibyte of float32."""


@dataclass(frozen=True)
class LayerWeights:
    """One block, under TransformerLens' names; biases not listed are zero."""

    W_Q: Float[Tensor, "head d_model d_head"]
    b_Q: Float[Tensor, "head d_head"]
    W_K: Float[Tensor, "head d_model d_head"]
    b_K: Float[Tensor, "head d_head"]
    W_V: Float[Tensor, "head d_model d_head"]
    W_O: Float[Tensor, "head d_head d_model"]
    W_in: Float[Tensor, "d_model d_mlp"]
    b_in: Float[Tensor, " d_mlp"]
    W_out: Float[Tensor, "d_mlp d_model"]


@dataclass(frozen=True)
class Weights:
    """A whole model. Token 0 is the sink; position 0 is its place. Scores are divided by √d_head."""

    W_E: Float[Tensor, "d_vocab d_model"]
    W_pos: Float[Tensor, "n_ctx d_model"]
    layers: tuple[LayerWeights, ...]
    W_U: Float[Tensor, "d_model d_vocab"]


def emit(program: SOp, inference: Inference, layout: Layout, layers: Sequence[Layer]) -> Weights:
    """The weights in float32. `program` is read off at the end of the stream.

    Raises:
        CompileError: if they would be more than MAX_PARAMETERS.
    """
    place = {direction: i for i, direction in enumerate(layout.directions)}
    n_heads = max(1, *(len(layer.heads) for layer in layers))
    d_head = max((head.d_head for layer in layers for head in layer.heads), default=1)
    d_mlp = max(1, *(sum(len(op.neurons) for op in layer.neurons) for layer in layers))
    size = len(layers) * len(place) * (4 * n_heads * d_head + 2 * d_mlp)
    if size > MAX_PARAMETERS:
        raise CompileError(
            f"the model would have {size:,} parameters, more than {MAX_PARAMETERS:,}; compile for a smaller max_len",
            program,
        )
    state = torch.zeros(len(place), dtype=torch.float64)
    state[place[SINK]] = 1.0
    emitted = []
    for layer in layers:
        attention = _attention(layer.heads, n_heads, d_head, place, state)
        for head in layer.heads:
            for target, weight in head.sink_value.items():
                state[place[target]] += weight
        emitted.append(LayerWeights(**attention, **_feed_forward(layer.neurons, d_mlp, place, state)))
    W_U = _unembedding(program, inference, layout, place)
    W_E, W_pos = _embeddings(inference, layout, place, d_vocab=max(1 + len(inference.setting.vocab), W_U.shape[1]))
    W_U = torch.nn.functional.pad(W_U, (0, len(W_E) - W_U.shape[1]))
    return Weights(W_E, W_pos, tuple(emitted), W_U)


def _embeddings(inference: Inference, layout: Layout, place: Mapping[str, int], d_vocab: int) -> tuple[Tensor, Tensor]:
    """The sink first, then a token a row; nothing at the sink's position, then an index a row."""
    setting = inference.setting
    W_E, W_pos = torch.zeros(d_vocab, len(place)), torch.zeros(1 + setting.max_len, len(place))
    W_E[0, place[SINK]] = 1.0
    for node, basis in layout.bases.items():
        if isinstance(node, Tokens | Indices):
            table, values = (W_E, setting.vocab) if isinstance(node, Tokens) else (W_pos, range(setting.max_len))
            for row, value in enumerate(values, start=1):
                table[row, place[basis.code(value)]] = 1.0
    return W_E, W_pos


def _attention(
    heads: Sequence[Head], n_heads: int, d_head: int, place: Mapping[str, int], state: Tensor
) -> dict[str, Tensor]:
    """The projections of one layer; heads that it does not need stay zero."""
    W_Q, W_K, W_V = torch.zeros(3, n_heads, len(place), d_head, dtype=torch.float64)
    W_O = torch.zeros(n_heads, d_head, len(place), dtype=torch.float64)
    b_Q, b_K = torch.zeros(2, n_heads, d_head, dtype=torch.float64)
    for h, head in enumerate(heads):
        own, itself = head.width, head.width + 1
        _fill(W_Q[h], head.query, place)
        _fill(W_K[h], head.key, place)
        for direction in head.demoted:
            W_K[h, place[direction], own] = ABSENT
        b_Q[h, own] = 1.0
        b_K[h, itself] = UNSELECTED
        query, key, value = torch.zeros(3, d_head, dtype=torch.float64)
        query[own] = query[itself] = 1.0
        key[own] = head.sink_score + head.sink_bonus / TIER
        targets = {target: dim for dim, target in enumerate(head.writes)}
        for source, row in head.value.items():
            for target, weight in row.items():
                W_V[h, place[source], targets[target]] = weight
        for target, dim in targets.items():
            W_O[h, dim, place[target]] = 1.0
            value[dim] = head.sink_value.get(target, 0.0)
        for matrix, bias, wanted in ((W_Q[h], b_Q[h], query), (W_K[h], b_K[h], key), (W_V[h], 0.0, value)):
            matrix[place[SINK]] += wanted - (state @ matrix + bias)
    coldness = TIER * math.sqrt(d_head)
    named = {"W_Q": W_Q * coldness, "b_Q": b_Q * coldness, "W_K": W_K, "b_K": b_K, "W_V": W_V, "W_O": W_O}
    return {name: tensor.float() for name, tensor in named.items()}


def _fill(matrix: Tensor, coordinates: Mapping[str, Mapping[int, float]], place: Mapping[str, int]) -> None:
    for direction, row in coordinates.items():
        for dim, weight in row.items():
            matrix[place[direction], dim] = weight


def _feed_forward(
    operations: Sequence[Neurons], d_mlp: int, place: Mapping[str, int], state: Tensor
) -> dict[str, Tensor]:
    W_in, b_in = torch.zeros(len(place), d_mlp), torch.zeros(d_mlp)
    W_out = torch.zeros(d_mlp, len(place))
    neurons = [neuron for operation in operations for neuron in operation.neurons]
    for n, neuron in enumerate(neurons):
        b_in[n] = neuron.bias
        for direction, weight in neuron.reads.items():
            W_in[place[direction], n] += weight
        for direction, weight in neuron.writes.items():
            W_out[n, place[direction]] += weight
    # A whole unit below zero, so that no rounding makes a neuron fire at the sink.
    W_in[place[SINK]] -= (state.float() @ W_in + b_in).clamp_min(0) + 1.0
    return {"W_in": W_in, "b_in": b_in, "W_out": W_out}


def _unembedding(program: SOp, inference: Inference, layout: Layout, place: Mapping[str, int]) -> Tensor:
    """One output for each value; for an average, its number and then one for each value that is no number."""
    basis, facts = layout.bases[program], inference.facts[program]
    by_value = facts.strays if facts.averaged else facts.values
    read = [basis.number] * facts.averaged + [basis.code(v) for v in by_value]
    W_U = torch.zeros(len(place), len(read))
    for column, direction in enumerate(read):
        W_U[place[direction], column] = 1.0
    return W_U

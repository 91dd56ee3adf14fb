"""Layers over named directions become the matrices of a transformer without norm.

Where the program needs one, every sequence starts with the sink. What the stream holds there is the same on every
input and known here (`state`): each head's sink attends to itself and writes its default, and no neuron fires. Whatever
the sink's keys, queries and values would be by that state is corrected through the weights of the sink's own column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.rasp.compiler.allocate import Allocation
from microtome.lab.rasp.compiler.facts import Setting
from microtome.lab.rasp.compiler.operations import Direction, Form, Head, Neuron
from microtome.lab.rasp.compiler.schedule import Layer
from microtome.lab.rasp.errors import CompileError
from microtome.lab.rasp.language import Indices, SOp, Tokens
from microtome.lab.rasp.values import key as identity

TIER = 128.0
"""Nats between two tiers of scores. exp(−TIER) is under half of float32's smallest number 2^−149, so whatever lies a
tier below the highest score gets attention 0, whatever the length and the values: no leakage is left to bound. It is a
power of two, so that scores, which are whole numbers of tiers, are exact."""

SCALE = 0.5
"""What the model multiplies scores by: a power of two, so that it rounds nothing, as 1/√d_head would. (TransformerLens'
native model refuses 1.)"""

MAX_PARAMETERS = 2**28
"""Largest model that is built, a gibibyte of float32."""

SINK_COLUMN = 0


@dataclass(frozen=True)
class LayerWeights:
    """One block, under TransformerLens' names; biases not listed are zero."""

    W_Q: Float[Tensor, "head d_model d_head"]
    b_Q: Float[Tensor, "head d_head"]
    W_K: Float[Tensor, "head d_model d_head"]
    b_K: Float[Tensor, "head d_head"]
    W_V: Float[Tensor, "head d_model d_head"]
    W_O: Float[Tensor, "head d_head d_model"]
    b_O: Float[Tensor, " d_model"]
    W_in: Float[Tensor, "d_model d_mlp"]
    b_in: Float[Tensor, " d_mlp"]
    W_out: Float[Tensor, "d_mlp d_model"]
    b_out: Float[Tensor, " d_model"]


@dataclass(frozen=True)
class Weights:
    """A whole model, which multiplies scores by SCALE. With a sink, token 0 is the sink and position 0 its place."""

    W_E: Float[Tensor, "d_vocab d_model"]
    W_pos: Float[Tensor, "n_ctx d_model"]
    layers: tuple[LayerWeights, ...]
    W_U: Float[Tensor, "d_model d_vocab"]
    b_U: Float[Tensor, " d_vocab"]


@dataclass(frozen=True)
class Plan:
    """What there is to emit.

    Attributes:
        setting: the inputs that the program is compiled for.
        layers: the heads and neurons.
        allocation: the columns.
        embedded: the directions that the embeddings write, by `Tokens` or `Indices`.
        output: the forms that are read off at the end.
        sink: whether sequences start with the sink.
    """

    setting: Setting
    layers: tuple[Layer, ...]
    allocation: Allocation
    embedded: Mapping[SOp, Sequence[Direction]]
    output: tuple[Form, ...]
    sink: bool

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """n_heads, d_head, d_mlp, d_vocab."""
        n_heads = max(1, *(len(layer.heads) for layer in self.layers))
        shape = {"sink": self.sink, "causal": self.setting.causal}
        d_head = max((head.d_head(**shape) for layer in self.layers for head in layer.heads), default=1)
        clearing = self.allocation.clearing
        d_mlp = max(
            layer.n_neurons + sum(len(_clearing(d)) for d in clearing.get(i, ())) for i, layer in enumerate(self.layers)
        )
        return n_heads, d_head, d_mlp, max(self.sink + len(self.setting.vocab), len(self.output))


def emit(plan: Plan, program: SOp) -> Weights:
    """The weights in float32.

    Raises:
        CompileError: if they would be more than MAX_PARAMETERS.
    """
    n_heads, d_head, d_mlp, d_vocab = plan.sizes
    width = plan.allocation.width
    size = len(plan.layers) * width * (4 * n_heads * d_head + 2 * d_mlp)
    if size > MAX_PARAMETERS:
        raise CompileError(
            f"the model would have {size:,} parameters, more than {MAX_PARAMETERS:,}; compile for a smaller max_len",
            program,
        )
    column = plan.allocation.column
    state = torch.zeros(width, dtype=torch.float64)
    if plan.sink:
        state[SINK_COLUMN] = 1.0
    emitted = []
    for i, layer in enumerate(plan.layers):
        attention = _attention(plan, layer.heads, n_heads, d_head, column, state)
        for head in layer.heads:
            for written in (head.sink_values, head.constants):
                for target, weight in written.items():
                    state[column[target]] += weight
        clearing = [n for d in plan.allocation.clearing.get(i, ()) for n in _clearing(d)]
        feed_forward = _feed_forward(plan, layer, clearing, d_mlp, column, state)
        for operation in layer.neurons:
            for target, weight in operation.constants.items():
                state[column[target]] += weight
        emitted.append(LayerWeights(**attention, **feed_forward))
    W_E, W_pos = _embeddings(plan, column, d_vocab)
    W_U, b_U = torch.zeros(width, d_vocab), torch.zeros(d_vocab)
    for i, form in enumerate(plan.output):
        b_U[i] = form.bias
        for direction, weight in form.weights.items():
            W_U[column[direction], i] = weight
    return Weights(W_E, W_pos, tuple(emitted), W_U, b_U)


def _embeddings(plan: Plan, column: Mapping[Direction, int], d_vocab: int) -> tuple[Tensor, Tensor]:
    """The sink first, then a token a row; nothing at the sink's position, then an index a row."""
    setting, width = plan.setting, plan.allocation.width
    W_E, W_pos = torch.zeros(d_vocab, width), torch.zeros(plan.sink + setting.max_len, width)
    if plan.sink:
        W_E[0, SINK_COLUMN] = 1.0
    for sop, directions in plan.embedded.items():
        table, values = (W_E, setting.vocab) if isinstance(sop, Tokens) else (W_pos, range(setting.max_len))
        assert isinstance(sop, Tokens | Indices)
        for direction in directions:
            for row, value in enumerate(values, start=plan.sink):
                # A value that no defined input has is in no table.
                table[row, column[direction]] = direction.table.get((identity(value),), 0.0)
    return W_E, W_pos


def _attention(
    plan: Plan,
    heads: Sequence[Head],
    n_heads: int,
    d_head: int,
    column: Mapping[Direction, int],
    state: Float[Tensor, " d_model"],
) -> dict[str, Tensor]:
    """The projections of one layer; heads that it does not need stay zero."""
    width = len(state)
    W_Q, W_K, W_V = torch.zeros(3, n_heads, width, d_head, dtype=torch.float64)
    W_O = torch.zeros(n_heads, d_head, width, dtype=torch.float64)
    b_Q, b_K = torch.zeros(2, n_heads, d_head, dtype=torch.float64)
    b_O = torch.zeros(width, dtype=torch.float64)
    for h, head in enumerate(heads):
        query, key, value = torch.zeros(3, d_head, dtype=torch.float64)
        dim = len(head.products)
        for i, (q, k) in enumerate(head.products):
            _fill(W_Q[h, :, i], b_Q[h], i, q, column)
            _fill(W_K[h, :, i], b_K[h], i, k, column)
        if head.by_query.weights or (plan.sink and not plan.setting.causal):
            _fill(W_Q[h, :, dim], b_Q[h], dim, Form(head.by_query.weights), column)
            b_K[h, dim] = 1.0
            query[dim] = -1.0
            dim += 1
        if head.has_key_term or plan.sink:
            _fill(W_K[h, :, dim], b_K[h], dim, head.by_key + Form({}, head.by_query.bias), column)
            b_Q[h, dim] = 1.0
            key[dim] = head.sink_score + head.sink_bonus / TIER
        for j, (target, form) in enumerate(head.values.items()):
            for direction, weight in form.weights.items():
                W_V[h, column[direction], j] = weight
            W_O[h, j, column[target]] = 1.0
            value[j] = head.sink_values.get(target, 0.0)
        for target, constant in head.constants.items():
            b_O[column[target]] += constant
        if plan.sink:
            for matrix, bias, wanted in ((W_Q[h], b_Q[h], query), (W_K[h], b_K[h], key), (W_V[h], 0.0, value)):
                matrix[SINK_COLUMN] += wanted - (state @ matrix + bias)
    named = {
        "W_Q": W_Q * (TIER / SCALE),
        "b_Q": b_Q * (TIER / SCALE),
        "W_K": W_K,
        "b_K": b_K,
        "W_V": W_V,
        "W_O": W_O,
        "b_O": b_O,
    }
    return {name: tensor.float() for name, tensor in named.items()}


def _fill(row: Tensor, bias: Tensor, dim: int, form: Form, column: Mapping[Direction, int]) -> None:
    for direction, weight in form.weights.items():
        row[column[direction]] = weight
    bias[dim] = form.bias


def _feed_forward(
    plan: Plan,
    layer: Layer,
    clearing: Sequence[Neuron],
    d_mlp: int,
    column: Mapping[Direction, int],
    state: Float[Tensor, " d_model"],
) -> dict[str, Tensor]:
    width = len(state)
    # Entries of an array are set many times faster than a tensor's; both share their memory.
    W_in, b_in = torch.zeros(width, d_mlp), torch.zeros(d_mlp)
    W_out, b_out = torch.zeros(d_mlp, width), torch.zeros(width)
    into, bias, out = W_in.numpy(), b_in.numpy(), W_out.numpy()
    neurons = [*(n for operation in layer.neurons for n in operation.neurons), *clearing]
    for n, neuron in enumerate(neurons):
        bias[n] = neuron.reads.bias
        for direction, weight in neuron.reads.weights.items():
            into[column[direction], n] += weight
        for direction, weight in neuron.writes.items():
            out[n, column[direction]] += weight
    for operation in layer.neurons:
        for direction, constant in operation.constants.items():
            b_out[column[direction]] += constant
    if plan.sink:
        # A whole unit below zero, so that no rounding makes a neuron fire at the sink.
        W_in[SINK_COLUMN] -= (state.float() @ W_in + b_in).clamp_min(0) + 1.0
    return {"W_in": W_in, "b_in": b_in, "W_out": W_out, "b_out": b_out}


def _clearing(direction: Direction) -> list[Neuron]:
    """The neurons that take a coordinate off the stream."""
    signs = {1.0 if x > 0 else -1.0 for x in direction.table.values() if x != 0}
    return [Neuron(Form({direction: sign}), {direction: -sign}) for sign in sorted(signs)]

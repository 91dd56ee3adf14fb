"""From the embeddings to the outputs, every coordinate of the stream as a function of s-ops."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from microtome.lab.rasp.decompiler.columns import Atom, Column, DecompileError, as_sop, classes, linear, reduced, union
from microtome.lab.rasp.decompiler.heads import HeadWeights, read_head
from microtome.lab.rasp.language import SOp, indices, tokens
from microtome.lab.rasp.values import Value
from microtome.lab.zoo.mixers.softmax import SoftmaxMixer
from microtome.lab.zoo.transformer import SequenceModel


def decompile(model: SequenceModel, *, vocab: Sequence[Value] | None = None, max_len: int | None = None) -> SOp:
    """A RASP program that computes what the model does, out of its weights alone.

    Its value is the id of the largest logit, or the first logit itself if the unembedding writes no other. Evaluate it
    with the model's own causality. Numbers are told apart to eight decimals, in double precision; attention weights
    below exp(−80) count as 0.

    Args:
        model: with a token stem, learned positions, softmax attention, ReLU or no neurons and no norm.
        vocab: what the token ids stand for, the sink's not counted; None: the ids themselves.
        max_len: the most tokens of an input, the sink not counted; where it is the model's context less one, position
            0 is a sink. None: what the weights look like decides.

    Raises:
        DecompileError: for a head, or neurons, that cannot be read; it names them.
    """
    _check(model)
    n_ctx = model.cfg.n_ctx
    if max_len is not None and max_len not in (n_ctx - 1, n_ctx):
        raise DecompileError(f"a model with a context of {n_ctx} takes inputs of {n_ctx - 1} or {n_ctx}, not {max_len}")
    W_E, W_pos = _array(model.embed.weight), _array(model.pos_embed.weight)
    has_sink = _looks_like_sink(model, W_E, W_pos) if max_len is None else len(W_pos) == max_len + 1
    first = int(has_sink)
    ids = range(first, len(W_E)) if vocab is None else vocab
    if first + len(ids) > len(W_E):
        raise DecompileError(f"a vocabulary of {len(ids)} tokens does not fit an embedding of {len(W_E)} rows")
    words = Atom(tokens, tuple(ids))
    places = Atom(indices, tuple(range(len(W_pos) - first)))
    W_E_words, W_pos_places = W_E[first : first + len(ids)], W_pos[first:]
    columns = [reduced((words, places), W_E_words[:, None, c] + W_pos_places[None, :, c]) for c in range(W_E.shape[1])]
    sink = W_E[0] + W_pos[0] if has_sink else None
    for i, block in enumerate(model.blocks):
        columns, sink = _attend(columns, sink, model, i, places)
        if model.cfg.d_mlp:
            columns, sink = _feed_forward(columns, sink, block.mlp, i)
    return _output(columns, _array(model.unembed.weight), _array(model.unembed.bias))


def _array(parameter: Tensor) -> np.ndarray:
    return parameter.detach().cpu().double().numpy()


def _check(model: SequenceModel) -> None:
    cfg = model.cfg
    if cfg.normalization_type is not None or cfg.positional_embedding_type != "learned":
        raise DecompileError("only a model without norm and with learned positions can be read")
    for i, block in enumerate(model.blocks):
        if not isinstance(block.attn, SoftmaxMixer):
            raise DecompileError(f"layer {i} has no softmax attention")
    if cfg.d_mlp and cfg.act_fn != "relu":
        raise DecompileError(f"only ReLU neurons can be read, not {cfg.act_fn}")


def _looks_like_sink(model: SequenceModel, W_E: np.ndarray, W_pos: np.ndarray) -> bool:
    """Whether token 0 alone marks column 0, nothing else is at position 0, and nothing ever writes there."""
    marked = W_E[0, 0] == 1 and not W_E[0, 1:].any() and not W_E[1:, 0].any()
    if not marked or W_pos[0].any() or W_pos[:, 0].any() or _array(model.unembed.weight)[:, 0].any():
        return False
    for block in model.blocks:
        written = [block.attn.o, *([block.mlp.out] if model.cfg.d_mlp else [])]
        if any(_array(layer.weight)[0].any() or _array(layer.bias)[0] for layer in written):
            return False
        if model.cfg.d_mlp and not (_array(block.mlp.in_.weight)[:, 0] <= -1).all():
            return False
    return True


def _attend(
    columns: list[Column], sink: np.ndarray | None, model: SequenceModel, layer: int, index: Atom
) -> tuple[list[Column], np.ndarray | None]:
    attn, n_heads = model.blocks[layer].attn, model.cfg.n_heads
    split = {n: _array(getattr(attn, n).weight).reshape(n_heads, -1, len(columns)) for n in "qkv"}
    bias = {n: _array(getattr(attn, n).bias).reshape(n_heads, -1) for n in "qkv"}
    out = _array(attn.o.weight).reshape(len(columns), n_heads, -1)
    b_O = _array(attn.o.bias)
    added: dict[int, list[Column]] = {int(c): [Column((), np.asarray(b_O[c]))] for c in np.flatnonzero(b_O)}
    after = None if sink is None else sink + b_O
    for h in range(n_heads):
        name = f"head {layer}.{h}"
        O = out[:, h]
        if not O.any():
            continue
        weights = HeadWeights(
            split["q"][h] * attn.scale, bias["q"][h] * attn.scale, split["k"][h], bias["k"][h],
            O @ split["v"][h], O @ bias["v"][h],
        )  # fmt: skip
        for target, column in read_head(columns, weights, sink, len(index.values), index, name).items():
            added.setdefault(target, []).append(column)
        if sink is not None:
            _sink_alone(columns, weights, sink, name, causal=attn.causal)
            after = after + weights.OV @ sink + weights.b_OV
    result = list(columns)
    for target, parts in added.items():
        parts = [columns[target], *parts]
        result[target] = linear(parts, np.ones(len(parts)), 0.0, f"column {target} after layer {layer}")
    return result, after


def _sink_alone(columns: list[Column], weights: HeadWeights, sink: np.ndarray, name: str, *, causal: bool) -> None:
    """Raises unless the sink attends to itself alone."""
    if causal:
        return
    query = weights.Q @ sink + weights.b_Q
    scores = linear(columns, query @ weights.K, float(query @ weights.b_K), name)
    if float(query @ (weights.K @ sink + weights.b_K)) - float(scores.table.max()) < 80.0:
        raise DecompileError(f"in {name} the sink attends to other positions")


def _feed_forward(columns: list[Column], sink: np.ndarray | None, mlp, layer: int):
    W_in, b_in, W_out, b_out = map(_array, (mlp.in_.weight, mlp.in_.bias, mlp.out.weight, mlp.out.bias))
    fired = {}
    for n in np.flatnonzero(W_out.any(0)):
        read = linear(columns, W_in[n], b_in[n], f"neuron {layer}.{n}")
        fired[int(n)] = Column(read.atoms, np.asarray(np.maximum(read.table, 0.0)))
    result = list(columns)
    for c in np.flatnonzero(W_out.any(1) | (b_out != 0)):
        writing = np.flatnonzero(W_out[c])
        parts = [columns[c], *(fired[int(n)] for n in writing)]
        what = f"column {c}, which the neurons of layer {layer} write,"
        result[c] = linear(parts, np.array([1.0, *W_out[c, writing]]), b_out[c], what)
    after = None if sink is None else sink + W_out @ np.maximum(W_in @ sink + b_in, 0) + b_out
    return _joined(result, layer), after


def _joined(columns: list[Column], layer: int) -> list[Column]:
    """Columns that depend on the same several s-ops depend on one new one."""
    groups: dict[tuple[Atom, ...], list[int]] = {}
    for c, column in enumerate(columns):
        if len(column.atoms) > 1:
            groups.setdefault(tuple(sorted(column.atoms, key=id)), []).append(c)
    result = list(columns)
    for members in groups.values():
        name = f"neurons {layer}, columns {', '.join(map(str, members))}"
        number, rows = classes([columns[c] for c in members], name)
        atom = Atom(as_sop(number, name, whole=True), tuple(range(len(rows))))
        for i, c in enumerate(members):
            result[c] = reduced((atom,), rows[:, i])
    return result


def _output(columns: list[Column], W_U: np.ndarray, b_U: np.ndarray) -> SOp:
    used = np.flatnonzero(W_U.any(1) | (b_U != 0))
    logits = [linear(columns, W_U[o], b_U[o], f"logit {o}") for o in range(int(used.max(initial=0)) + 1)]
    if len(logits) == 1:
        return as_sop(logits[0], "output")
    atoms = union(logits, "the output")
    shape = [len(a.values) for a in atoms]
    stacked = np.stack([np.broadcast_to(logit.on(atoms), shape) for logit in logits])
    best = np.round(stacked, 6).argmax(0)
    if len(logits) < len(W_U):
        best = np.where(np.round(stacked.max(0), 6) < 0, len(logits), best)
    return as_sop(Column(atoms, np.asarray(best)), "output", whole=True)

"""Transformer-XL: its scores term by term, and reading segment by segment."""

import pytest
import torch

from microtome.lab import zoo
from microtome.lab.zoo.mixers.transformer_xl import sinusoids
from microtome.lab.zoo.segments import Segments

SIZES = {"d_vocab": 11, "d_model": 16, "n_layers": 3, "n_heads": 2, "n_ctx": 48}


def build(mixer="transformer_xl", position="none", **sizes):
    return zoo.sequence(mixer=mixer, position=position, **{**SIZES, **sizes}).double()


@pytest.fixture
def tokens(generator):
    return torch.randint(11, (2, 40), generator=generator)


@pytest.mark.parametrize("causal", [True, False])
def test_scores_are_the_four_terms(causal, tokens):
    model = build(n_layers=1, causal=causal)
    _, cache = model.run_with_cache(tokens)
    mixer = model.blocks[0].attn
    q, k, scores = cache["q", 0], cache["k", 0], cache["attn_scores", 0]
    with torch.no_grad():
        for i, j in [(0, 0), (7, 3), (39, 0), (12, 12), *([] if causal else [(3, 30)])]:
            r = mixer.r(sinusoids(torch.tensor([i - j]), 16).double()).view(2, 8)
            terms = (q[:, i] * k[:, j], q[:, i] * r, mixer.u * k[:, j], (mixer.v_bias * r).expand(2, -1, -1))
            wanted = sum(t.sum(-1) for t in terms) / 8**0.5
            torch.testing.assert_close(scores[:, :, i, j], wanted, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    "parts",
    [{}, {"mixer": "softmax", "position": "alibi"}, {"mixer": "softmax", "position": "rope"}],
    ids=str,
)
@pytest.mark.parametrize("sizes", [(10, 10, 10, 10), (3, 30, 7)], ids=str)
def test_with_room_for_all_segments_give_the_whole_s_outputs(parts, sizes, tokens):
    model = build(**parts)
    reader = Segments(model, memory=40)
    parts_read = torch.cat([reader.push(segment) for segment in tokens.split(sizes, 1)], dim=1)
    torch.testing.assert_close(parts_read, model(tokens), atol=1e-10, rtol=0)


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_the_span_grows_by_one_segment_a_layer(n_layers, tokens):
    model = build(n_layers=n_layers)

    def last(tokens):
        reader = Segments(model, memory=8)
        return [reader.push(segment) for segment in tokens.split(8, 1)][-1][0, 0]

    reached = []
    for segment in range(4):
        changed = tokens.clone()
        # The first position of the last segment sees the whole of the one before, and so on.
        changed[0, 8 * segment : 8 * segment + 8] += 1
        changed %= 11
        reached.append(bool((last(changed) - last(tokens)).abs().max() > 1e-12))
    assert reached == [segment >= 4 - n_layers for segment in range(4)]


def test_the_memory_carries_no_gradient(tokens):
    model, reader = build(), None
    reader = Segments(model, memory=10)
    first, second = (reader.push(segment) for segment in tokens[:, :20].split(10, 1))
    embedded = model.embed.weight
    assert all(not memory.requires_grad for memory in reader.memories)
    (gradient,) = torch.autograd.grad(second.square().sum(), embedded)
    unseen = sorted(set(range(11)) - set(tokens[:, 10:20].flatten().tolist()))
    assert (gradient[unseen] == 0).all()
    assert torch.isfinite(first).all()


def test_no_memory_is_reading_each_segment_alone(tokens):
    model = build()
    reader = Segments(model, memory=0)
    for segment in tokens.split(10, 1):
        torch.testing.assert_close(reader.push(segment), model(segment), atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"causal": False}, "only a causal model"),
        ({"mixer": "softmax", "position": "learned"}, "positions added to the stream would begin anew"),
        ({"mixer": "linear_attention"}, "a mixer needs all rows at once"),
        ({"depth": "reversible"}, "the depth policy does not pass the blocks"),
        ({"feedforward": {"name": "experts", "capacity": 1.0}}, "the feed-forward looks at other positions"),
    ],
)
def test_models_that_cannot_be_read_in_segments_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        Segments(build(**parts), memory=8)


def test_bad_memories_and_batches_are_refused(tokens):
    with pytest.raises(ValueError, match="memory must be at least 0"):
        Segments(build(), memory=-1)
    reader = Segments(build("softmax", "relative"), memory=40)
    reader.push(tokens[:, :30])
    with pytest.raises(ValueError, match="one batch of 2 sequences, not 1"):
        reader.push(tokens[:1, 30:])
    with pytest.raises(ValueError, match="60 positions; this model takes at most 48"):
        reader.push(tokens[:, :30])

import re

import pytest
import torch

from microtome.lab import rasp, zoo
from microtome.lab.rasp import superposition
from microtome.lab.rasp.library import make_frac_prevs, make_hist, make_reverse, make_sort_unique
from microtome.lab.rasp.superposition.compressed import random_orthonormal
from microtome.lab.rasp.superposition.fold import folded, narrow, settled
from microtome.lab.rasp.superposition.forward import batch
from microtome.lab.rasp.superposition.inputs import inputs_of
from microtome.lab.rasp.superposition.reference import reference

PROGRAMS = {
    "hist": (make_hist(), "abc", False),
    "frac_prevs": (make_frac_prevs(rasp.tokens == "x"), "xyz", False),
    "reverse": (make_reverse(rasp.tokens), "abc", False),
    "sort_unique": (make_sort_unique(rasp.tokens, rasp.tokens), (1, 2, 3), False),
    "causal hist": (make_hist(), "abc", True),
}


def compiled_for(name: str, optimize: int = 0):
    program, vocab, causal = PROGRAMS[name]
    return rasp.compile(program, vocab=vocab, max_len=4, causal=causal, optimize=optimize)


def outputs_through(compiled, W, inputs):
    """Of the narrow model at what is no padding, in float64: float32 rounds scores of hundreds to where it shows."""
    model = narrow(compiled.model, W.shape[1]).double()
    model.load_state_dict(folded(settled(compiled.model), W))
    ids, mask = compiled.pad(inputs)
    with torch.no_grad():
        return model(ids, mask=mask)[mask]


@pytest.fixture(scope="module")
def hist():
    return rasp.compile(make_hist(), vocab="abc", max_len=5, optimize=0)


@pytest.fixture(scope="module")
def untrained(hist):
    return superposition.curve(hist, [10, 1, 10], steps=1)


@pytest.mark.parametrize("optimize", [0, 1])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_rotated_program_says_the_same_on_every_input(name, optimize):
    compiled = compiled_for(name, optimize)
    turned = superposition.rotate(compiled, seed=3)
    inputs = inputs_of(compiled, 120, 0)
    assert len(inputs) == 3 + 9 + 27 + 81
    assert turned.accuracy(inputs) == 1.0
    assert turned.width == compiled.model.cfg.d_model
    assert (turned.map - torch.eye(turned.width)).abs().max() > 0.1


def test_an_orthonormal_map_mixes_no_directions(hist):
    small = superposition.rotate(hist, seed=1)
    assert torch.allclose(small.gram, torch.eye(10, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_trained_is_what_the_narrow_model_computes(name):
    """Also where the map loses much, and whether or not there are a sink, MLPs and several layers."""
    compiled = compiled_for(name)
    inputs = inputs_of(compiled, 120, 0)
    held = batch(compiled, inputs)
    W = random_orthonormal(compiled.model.cfg.d_model, 5, seed=0)
    found = held.run(W @ W.T).outputs[held.real]
    assert torch.allclose(found, outputs_through(compiled, W, inputs)[:, : found.shape[1]], rtol=1e-6, atol=1e-6)
    assert not torch.allclose(found, held.run(torch.eye(len(W), dtype=W.dtype)).outputs[held.real], rtol=0.1)


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_is_lost_without_a_narrow_place(name):
    compiled = compiled_for(name)
    d_model = compiled.model.cfg.d_model
    losses = reference(compiled, inputs_of(compiled, 120, 0)).losses(random_orthonormal(d_model, d_model, 0))
    assert [float(x) for x in losses] == pytest.approx([0, 0, 0], abs=1e-9)


def test_only_products_of_rows_count(hist):
    """A rotation of the narrow stream changes the map and nothing that is computed."""
    W, turn = random_orthonormal(10, 6, 0), random_orthonormal(6, 6, 1)
    first, second = (outputs_through(hist, map, inputs_of(hist, 400, 0)) for map in (W, W @ turn))
    assert torch.allclose(first, second, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_a_trained_map_keeps_what_projections_lose(hist, seed):
    """hist of 10 dimensions in 4, at seeds next to one another.

    It is not true of every program and width: `compress` names those where it was found, and one where it was not.
    """
    kept = superposition.curve(hist, [4], seed=seed).kept[0]
    assert kept.trained > max(kept.principal, kept.random)


def test_the_seed_decides_the_map(hist):
    first, again, other = (superposition.compress(hist, 4, steps=5, seed=seed).map for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.1)


def test_the_global_generator_is_left_alone(hist):
    before = torch.random.get_rng_state()
    superposition.compress(hist, 3, steps=2)
    superposition.rotate(hist)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_compiled_program_is_left_alone(hist):
    before = {name: weight.clone() for name, weight in hist.model.state_dict().items()}
    superposition.compress(hist, 3, steps=2)
    assert all(torch.equal(weight, before[name]) for name, weight in hist.model.state_dict().items())
    assert all(weight.requires_grad for weight in hist.model.parameters())


def test_steps_lower_what_is_lost(hist):
    held = reference(hist, inputs_of(hist, 80, 0))
    start = held.losses(random_orthonormal(10, 4, 0))
    end = held.losses(superposition.compress(hist, 4, steps=100).map)
    assert end.outputs + end.modules < start.outputs + start.modules


def test_the_narrow_model_is_hooked(hist):
    small = superposition.compress(hist, 4, steps=2)
    ids, mask = hist.pad(["ab", "abc"])
    _, cache = small.model.run_with_cache(ids, mask=mask)
    assert cache["blocks.0.hook_resid_post"].shape == (2, 4, 4)
    assert cache["blocks.0.attn.hook_pattern"].shape == (2, 1, 4, 4)
    assert small.model.cfg.d_model == small.width == 4
    assert small.map.shape == (10, 4)
    assert len(small("ab")) == 2
    assert [len(row) for row in small.run(["ab", "abc"])] == [2, 3]


def test_a_curve_reaches_every_output_at_full_width(untrained):
    assert [k.width for k in untrained.kept] == [1, 10]
    narrowest, full = untrained.kept
    assert (full.trained, full.principal, full.random) == (1.0, 1.0, 1.0)
    assert max(narrowest.principal, narrowest.random) < 1.0
    assert untrained.inputs == 3 + 9 + 27 + 81 + 243


def test_the_curves_figure_shows_its_numbers(untrained):
    (axis,) = untrained.figure.axes
    drawn = [line.get_ydata().tolist() for line in axis.lines[:3]]
    assert drawn == [[getattr(k, what) for k in untrained.kept] for what in ("trained", "principal", "random")]
    assert axis.get_xlabel() == "width of the stream (compiled: 10)"
    assert axis.get_ylabel() == "output values kept, on 363 inputs"


def test_the_commonest_answer_is_chance(hist, untrained):
    said = [value for row in hist.run(inputs_of(hist, 400, 0)) for value in row]
    assert untrained.chance == max(said.count(value) for value in set(said)) / len(said)


def test_the_gram_figure_names_the_directions(hist):
    small = superposition.compress(hist, 4, steps=2)
    axis = superposition.gram_figure(small).axes[0]
    names = [label.get_text().rpartition("  ")[0] for label in axis.get_yticklabels()]
    assert names == list(hist.labels)
    assert torch.tensor(axis.get_images()[0].get_array().tolist()).allclose(small.gram.float())
    assert axis.get_title() == "hist: 10 directions in 4 dimensions"


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda c: superposition.compress(c, 0), "width must be between 1 and the 10 of hist, not 0."),
        (lambda c: superposition.compress(c, 11), "width must be between 1 and the 10 of hist, not 11."),
        (lambda c: superposition.compress(c, 4, steps=0), "steps must be at least 1, not 0."),
        (
            lambda c: superposition.curve(c, []),
            "widths must name at least one width of the stream; it is empty.",
        ),
        (lambda c: superposition.curve(c, [4, 12]), "width must be between 1 and the 10 of hist, not 12."),
        (lambda c: superposition.curve(c, [4], steps=-1), "steps must be at least 1, not -1."),
        (lambda c: superposition.rotate(c).accuracy([]), "accuracy needs at least one input."),
    ],
)
def test_refusals(hist, call, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        call(hist)


def test_unknown_tokens_are_refused_as_the_program_does(hist):
    with pytest.raises(rasp.InputError, match="not in the vocabulary"):
        superposition.rotate(hist)("ax")


def test_a_norm_cannot_be_folded():
    stem = {"name": "tokens", "d_vocab": 3}
    normed = zoo.sequence(stem=stem, norm="layernorm", d_model=4, n_layers=1, n_heads=1, n_ctx=4)
    with pytest.raises(ValueError, match=r"a map cannot be folded into .*ln"):
        folded(normed, torch.eye(4, dtype=torch.float64))

"""Reading the stream: the values of the program's s-ops, as far as each layer holds them."""

import random

import pytest
import torch

from microtome.lab import rasp
from microtome.lab.rasp import tokens
from microtome.lab.rasp.interpreter import trace
from microtome.lab.rasp.language import SOp
from microtome.lab.rasp.library import make_frac_prevs, make_hist, make_reverse, make_sort
from microtome.lab.rasp.reading import OneOf
from microtome.lab.rasp.values import key

PROGRAMS = {
    "hist": make_hist(),
    "reverse": make_reverse(tokens),
    "sort": make_sort(tokens, tokens),
}
INPUTS = ["cab", "aab", "ccc", "bca"]


def run(compiled, batch):
    with torch.no_grad():
        return compiled.model.run_with_cache(compiled.encode(batch))[1]


def told_apart(values):
    return [key(value) for value in values]


@pytest.mark.parametrize("optimize", [0, 1])
@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_read_is_what_the_interpreter_has(name, optimize):
    program = PROGRAMS[name]
    compiled = rasp.compile(program, vocab="abc", max_len=5, optimize=optimize)
    draw = random.Random(name)
    batch = [*INPUTS, *("".join(draw.choices("abc", k=3)) for _ in range(12))]
    cache = run(compiled, batch)
    certain = 0
    for layer in range(-1, compiled.model.cfg.n_layers):
        read = compiled.read(cache, layer)
        assert len(read["tokens"]) == len(batch) if layer < 0 else True
        for i, xs in enumerate(batch):
            wanted = {n.label: v for n, v in trace(program, xs).items() if isinstance(n, SOp)}
            for label, rows in read.items():
                for found, value in zip(rows[i], wanted[label], strict=True):
                    options = found.values if isinstance(found, OneOf) else (found,)
                    certain += not isinstance(found, OneOf)
                    assert key(value) in told_apart(options), (layer, label, xs)
    assert certain > 100


def test_layer_by_layer_more_is_known():
    compiled = rasp.compile(make_hist(), vocab="abc", max_len=5)
    cache = run(compiled, ["cab", "aab"])
    assert compiled.read(cache, -1)["tokens"] == [["c", "a", "b"], ["a", "a", "b"]]
    assert "hist" not in compiled.read(cache, -1)
    assert compiled.read(cache, 0)["hist"] == [[1, 1, 1], [2, 2, 1]]

    compiled = rasp.compile(make_reverse(tokens), vocab="abc", max_len=5)
    cache = run(compiled, ["cab"])
    assert compiled.read(cache, -1)["indices"] == [[0, 1, 2]]
    assert compiled.read(cache, 0)["length"] == [[3, 3, 3]]
    assert "reverse" not in compiled.read(cache, 0)
    assert compiled.read(cache, 1)["opposite"] == [[2, 1, 0]]
    assert compiled.read(cache, 1)["reverse"] == [["b", "a", "c"]]

    compiled = rasp.compile(make_sort(tokens, tokens), vocab="abc", max_len=5)
    cache = run(compiled, ["cab", "bba"])
    last = compiled.model.cfg.n_layers - 1
    assert compiled.read(cache, last - 1)["rank"] == [[2, 0, 1], [1, 2, 0]]
    assert "sort" not in compiled.read(cache, last - 1)
    assert compiled.read(cache, last)["sort"] == [["a", "b", "c"], ["a", "b", "b"]]


def test_the_last_layer_holds_the_program():
    for program in PROGRAMS.values():
        compiled = rasp.compile(program, vocab="abc", max_len=4)
        read = compiled.read(run(compiled, INPUTS), compiled.model.cfg.n_layers - 1)
        assert read[program.label] == compiled.run(INPUTS)


def test_an_average_is_read_as_the_number_that_it_is():
    compiled = rasp.compile(make_frac_prevs(tokens == "a").named("share"), vocab="ab", max_len=6)
    read = compiled.read(run(compiled, ["abba"]), compiled.model.cfg.n_layers - 1)
    (row,) = read["share"]
    assert all(abs(float(x) - y) < 1e-4 for x, y in zip(row, (1, 1 / 2, 1 / 3, 1 / 2), strict=True))


def test_what_the_stream_leaves_open_is_said():
    compiled = rasp.compile(make_reverse(tokens), vocab="abc", max_len=5)
    (row,) = compiled.read(run(compiled, ["cab"]), -1)["opposite"]
    assert row == [OneOf((0, 1, 2, 3, 4)), OneOf((0, 1, 2, 3)), OneOf((0, 1, 2))], "length is not yet known"
    assert repr(row[2]) == "OneOf(0, 1, 2)"


def test_an_intervention_is_read_off():
    compiled = rasp.compile(make_hist(), vocab="abc", max_len=5)
    column = compiled.labels.index("hist: sink share")
    other = run(compiled, ["aaa"])["blocks.0.hook_resid_mid"][..., column]

    def patch(stream, hook):
        stream[..., column] = other
        return stream

    with torch.no_grad(), compiled.model.hooks(fwd_hooks=[("blocks.0.hook_resid_mid", patch)]):
        cache = run(compiled, ["abc"])
    assert compiled.read(cache, 0)["hist"] == [[3, 3, 3]]
    assert compiled.read(cache, 0)["tokens"] == [["a", "b", "c"]]


def test_a_layer_that_is_not_there_is_refused():
    compiled = rasp.compile(make_hist(), vocab="abc", max_len=5)
    cache = run(compiled, ["cab"])
    for layer in (-2, 1):
        with pytest.raises(ValueError, match=f"the model has layers 0 to 0, .*; there is no {layer}"):
            compiled.read(cache, layer)
    with pytest.raises(KeyError):
        compiled.read({}, 0)

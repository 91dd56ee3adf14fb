"""The check itself: it must find what is wrong, and say where it starts."""

import pytest
import torch

from microtome.lab import rasp
from microtome.lab.rasp import Aggregate, Comparison, Select, SelectorWidth, indices, tokens
from microtome.lab.rasp.library import SAME_TOKEN, make_frac_prevs, make_hist
from microtome.lab.rasp.verify import draw, every_input


def compiled_hist(max_len=4):
    return rasp.compile(make_hist() - indices, vocab="ab", max_len=max_len)


def test_it_runs_all_inputs_when_they_are_few():
    compiled = compiled_hist()
    report = compiled.verify()
    assert (report.inputs, report.exhaustive, report.mismatch) == (2 + 4 + 8 + 16, True, None)
    assert report.equal
    assert report.deviation < 1e-6
    assert str(report).startswith("equals the interpreter on all 30 inputs; largest deviation in the stream ")


def test_it_draws_inputs_when_they_are_many():
    report = compiled_hist(max_len=12).verify(samples=20, limit=8000)
    assert (report.inputs, report.exhaustive) == (20, False)
    assert "20 drawn inputs" in str(report)


def test_whether_all_inputs_are_run_can_be_chosen():
    compiled = compiled_hist()
    assert compiled.verify(exhaustive=True, limit=1).inputs == 30
    assert compiled.verify(exhaustive=False, samples=7).inputs == 7


def test_it_does_not_pass_on_no_inputs_at_all():
    with pytest.raises(rasp.RaspError, match="to draw inputs from 8,190, samples must be at least 1, not 0"):
        compiled_hist(max_len=12).verify(samples=0, limit=10)


def test_inputs_on_which_the_program_is_not_defined_are_counted_and_left_out():
    everywhere = Aggregate(Select(tokens, tokens, Comparison.TRUE), tokens)
    report = rasp.compile(everywhere, vocab="ab", max_len=3).verify()
    assert (report.inputs, report.undefined) == (6, 2 + 6), "a word repeated is its own average; two words have none"
    assert report.equal
    assert "all 6 inputs on which the program is defined (on 8 it is not)" in str(report)


def test_drawn_inputs_are_long_repeat_tokens_and_depend_on_the_seed_alone():
    setting = compiled_hist(max_len=12).lowered.plan.setting
    inputs = list(draw(setting, 40, seed=3))
    assert inputs == list(draw(setting, 40, seed=3)) != list(draw(setting, 40, seed=4))
    assert sum(len(xs) == 12 for xs in inputs) >= 20
    assert any(len(set(xs)) == 1 for xs in inputs if len(xs) == 12)
    assert [len(xs) for xs in inputs] == sorted(len(xs) for xs in inputs)


def test_every_input_comes_once():
    inputs = list(every_input((0, 1, 2), 4))
    assert len(inputs) == len(set(inputs)) == 3 + 9 + 27 + 81


def test_a_broken_weight_is_found_with_its_first_input_and_direction():
    compiled = compiled_hist()
    (direction,) = [d for d in compiled.directions if d.name == "hist"]
    (neurons,) = [n for layer in compiled.lowered.plan.layers for n in layer.neurons if direction in n.writes]
    with torch.no_grad():
        # Without what a hist of 2 adds to one of 1, the first input with a repeated token reads 1 instead.
        compiled.model.blocks[0].mlp.out.weight[compiled.directions[direction], : len(neurons.neurons)] = 0
    report = compiled.verify()
    assert not report.equal
    assert report.mismatch.tokens in (("a",), ("a", "a"))
    assert (report.mismatch.node, report.mismatch.position) == ("hist", 0)
    assert report.mismatch.expected == len(report.mismatch.tokens)
    assert f"differs on input {list(report.mismatch.tokens)}: hist is" in str(report)
    assert "in the interpreter" in str(report)


def test_a_broken_readout_is_found_too():
    compiled = compiled_hist()
    with torch.no_grad():
        compiled.model.unembed.weight.copy_(compiled.model.unembed.weight.roll(1, 0))
        compiled.model.unembed.bias.copy_(compiled.model.unembed.bias.roll(1, 0))
    report = compiled.verify()
    assert report.mismatch.tokens == ("a",)
    assert report.mismatch.node == "hist - indices"
    assert report.mismatch.found != report.mismatch.expected == 1


def test_a_number_beyond_its_error_is_found():
    compiled = rasp.compile(make_frac_prevs(tokens == "a"), vocab="ab", max_len=4)
    assert compiled.verify().equal
    with torch.no_grad():
        for block in compiled.model.blocks:
            block.attn.v.weight.mul_(1 + 1e-4)
    report = compiled.verify()
    assert report.mismatch.node == "frac_prevs"
    distance = abs(report.mismatch.found - report.mismatch.expected)
    assert 0 < distance < 2e-4, "the output still rounds to the right value"


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_is_not_finite_is_found(poison):
    compiled = compiled_hist()
    with torch.no_grad():
        compiled.model.embed.weight[1, -1] = poison
    assert not compiled.verify().equal


def test_a_value_that_the_compiler_did_not_foresee_is_found():
    calls = iter(range(1000))
    impure = rasp.Map(lambda n: next(calls), SelectorWidth(SAME_TOKEN))
    report = rasp.compile(impure, vocab="ab", max_len=2).verify()
    assert not report.equal

"""The check itself: it must find what is wrong, and say where it starts."""

import pytest
import torch

from microtome.lab import rasp
from microtome.lab.rasp import SelectorWidth, indices, tokens
from microtome.lab.rasp.library import SAME_TOKEN, make_frac_prevs, make_hist
from microtome.lab.rasp.verify import draw, every_input


def compiled_hist(max_len=4):
    return rasp.compile(make_hist() - indices, vocab="ab", max_len=max_len)


def test_it_runs_all_inputs_when_they_are_few():
    report = compiled_hist().verify()
    assert (report.inputs, report.exhaustive, report.mismatch) == (2 + 4 + 8 + 16, True, None)
    assert report.equal
    assert 0 < report.deviation < 1e-6
    assert str(report).startswith("equals the interpreter on all 30 inputs; largest deviation in the stream ")


def test_it_draws_inputs_when_they_are_many():
    report = compiled_hist(max_len=12).verify(samples=20, limit=8000)
    assert (report.inputs, report.exhaustive) == (20, False)
    assert "20 drawn inputs" in str(report)


def test_it_does_not_pass_on_no_inputs_at_all():
    with pytest.raises(
        rasp.RaspError, match="there are 8,190 inputs, more than 10, so samples must be at least 1, not 0"
    ):
        compiled_hist(max_len=12).verify(samples=0, limit=10)


def test_drawn_inputs_are_long_repeat_tokens_and_depend_on_the_seed_alone():
    setting = compiled_hist(max_len=12).inference.setting
    inputs = list(draw(setting, 40, seed=3))
    assert inputs == list(draw(setting, 40, seed=3)) != list(draw(setting, 40, seed=4))
    assert sum(len(xs) == 12 for xs in inputs) >= 20
    assert any(len(set(xs)) == 1 for xs in inputs if len(xs) == 12)
    assert [len(xs) for xs in inputs] == sorted(len(xs) for xs in inputs)


def test_every_input_comes_once():
    inputs = list(every_input((0, 1, 2), 4))
    assert len(inputs) == len(set(inputs)) == 3 + 9 + 27 + 81


def test_a_broken_weight_is_found_with_its_first_input_and_node():
    compiled = compiled_hist()
    column = compiled.labels.index("hist=2")
    with torch.no_grad():
        compiled.model.blocks[0].mlp.out.weight[column] = 0  # a hist of 2 is never turned on
    report = compiled.verify()
    assert not report.equal
    assert report.mismatch.tokens == ("a", "a")
    assert (report.mismatch.node, report.mismatch.position, report.mismatch.expected) == ("hist", 0, 2)
    assert "differs on input ['a', 'a']: hist is" in str(report)
    assert "2 in the interpreter" in str(report)


def test_a_broken_readout_is_found_too():
    compiled = compiled_hist()
    with torch.no_grad():
        compiled.model.unembed.weight.copy_(compiled.model.unembed.weight.roll(1, 0))
    report = compiled.verify()
    assert report.mismatch.tokens == ("a",)
    assert report.mismatch.node == "(hist - indices)"
    assert report.mismatch.found != report.mismatch.expected == 1


def test_a_number_beyond_its_error_is_found():
    compiled = rasp.compile(make_frac_prevs(tokens == "a"), vocab="ab", max_len=4)
    assert compiled.verify().equal
    with torch.no_grad():
        compiled.model.blocks[1].attn.v.weight.mul_(1 + 1e-4)
    report = compiled.verify()
    assert report.mismatch.node == "frac_prevs"
    assert report.mismatch.found == report.mismatch.expected, "the output still rounds to the right value"


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_is_not_finite_is_found(poison):
    compiled = compiled_hist()
    with torch.no_grad():
        compiled.model.embed.weight[1, compiled.labels.index("hist=1")] = poison
    assert not compiled.verify().equal


def test_a_value_that_the_compiler_did_not_foresee_is_found():
    calls = iter(range(1000))
    impure = rasp.Map(lambda n: next(calls), SelectorWidth(SAME_TOKEN))
    report = rasp.compile(impure, vocab="ab", max_len=2).verify()
    assert not report.equal

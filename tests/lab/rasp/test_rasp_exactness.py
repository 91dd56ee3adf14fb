"""What compilers of RASP are known to get wrong: lengths over 9, None, defaults, signs, averages, widths, ties."""

import math
import random

import pytest
import torch

from microtome.lab import rasp
from microtome.lab.rasp import (
    Aggregate,
    Comparison,
    ConstantSelector,
    Map,
    Select,
    SelectorWidth,
    SequenceMap,
    indices,
    tokens,
)
from microtome.lab.rasp.library import (
    detect_pattern,
    make_frac_prevs,
    make_hist,
    make_length,
    make_reverse,
    make_sort,
    make_sort_unique,
    shift_by,
)

ALL = Select(tokens, tokens, Comparison.TRUE)
NEVER = Select(tokens, tokens, Comparison.FALSE)


def check(program, vocab, max_len, causal=False, samples=6):
    compiled = rasp.compile(program, vocab=vocab, max_len=max_len, causal=causal)
    report = compiled.verify(samples=samples, limit=130)
    assert report.equal, report
    return compiled


@pytest.mark.parametrize("max_len", [10, 20, 33])
@pytest.mark.parametrize(
    "make", [make_length, make_hist, lambda: make_reverse(tokens), lambda: make_sort(tokens, tokens)]
)
def test_default_settings_stay_exact_beyond_nine_tokens(make, max_len):
    check(make(), "abcde", max_len, samples=3)


@pytest.mark.parametrize(
    ("make", "answer"),
    [
        (lambda: make_reverse(tokens), lambda xs: xs[::-1]),
        (make_hist, lambda xs: [xs.count(x) for x in xs]),
        (lambda: make_sort_unique(tokens, tokens), lambda xs: sorted(xs)),
    ],
    ids=["reverse", "hist", "sort_unique"],
)
def test_every_length_up_to_sixty_four(make, answer):
    vocab = range(64)
    compiled = rasp.compile(make(), vocab=vocab, max_len=64)
    draw = random.Random(64)
    inputs = [draw.sample(vocab, n) for n in range(1, 65)]
    if make is make_hist:
        inputs += [draw.choices(vocab[:5], k=n) for n in range(1, 65)]
    assert compiled.run(inputs) == [answer(list(xs)) for xs in inputs]


def test_the_length_stays_exact_at_long_inputs():
    compiled = rasp.compile(make_length(), vocab="ab", max_len=256)
    for n in (1, 2, 127, 128, 200, 254, 255, 256):
        assert compiled("ab" * (n // 2) + "a" * (n % 2)) == [n] * n


@pytest.mark.parametrize("max_len", [128, 256])
def test_widths_stay_exact_at_long_inputs(max_len):
    compiled = rasp.compile(make_hist(), vocab="ab", max_len=max_len)
    for ones in (0, 1, max_len // 2, max_len - 1, max_len):
        assert compiled("a" * ones + "b" * (max_len - ones)) == [ones] * ones + [max_len - ones] * (max_len - ones)


def test_a_vocabulary_of_sixty_four_tokens():
    compiled = check(make_sort(tokens, tokens), range(64), 3)
    assert compiled([63, 0, 17]) == [0, 17, 63]
    assert compiled([5, 63, 5]) == [5, 5, 63]


def test_none_has_a_code_and_flows_on():
    compiled = check(shift_by(1, shift_by(1, tokens == "a")), "ab", 6)
    assert compiled("aabb") == [None, None, True, True]
    assert check(detect_pattern(tokens, "ab"), "ab", 6, causal=True)("abab") == [None, True, False, True]


def test_an_empty_selection_yields_the_default_and_never_a_token():
    for default in (None, "none", 0, -3, 0.5, True, ("a", 1)):
        assert check(Aggregate(NEVER, tokens, default=default), "ab", 4)("ab") == [default] * 2


@pytest.mark.parametrize("causal", [False, True])
def test_a_default_of_another_kind_than_the_average(causal):
    before = Select(indices, indices, Comparison.LT)
    average = Aggregate(before, tokens, default="start")
    assert check(average, (-2, 1), 5, causal)([-2, 1, 1]) == ["start", -2, -0.5]
    flags = Aggregate(before, tokens == 1, default=0)
    found = check(flags, (-2, 1), 5, causal)([-2, 1, 1])
    assert found == [0, False, 0.5]
    assert [type(v) for v in found] == [int, bool, float]


def test_values_reached_through_the_default_can_be_read_again():
    before = Select(indices, indices, Comparison.LT)
    average = Aggregate(before, tokens, default="start")
    shown = Map(lambda v: "first" if v == "start" else -v, average)
    assert check(shown, (-2, 0, 3), 5)([3, 0, -2]) == ["first", -3, -1.5]


def test_an_average_skips_none_and_is_none_of_nones_alone():
    holes = Map(lambda t: None if t == "a" else 6, tokens)
    compiled = check(Aggregate(ALL, holes, default=0), "ab", 5)
    assert compiled("aab") == [6, 6, 6]
    assert compiled("aa") == [None, None]
    before = Aggregate(Select(indices, indices, Comparison.LT), holes, default=0)
    assert check(before + 1, "ab", 5)("abab") == [1, None, 7, 7]


def test_negative_numbers_and_averages_over_any_set():
    score = Map({"a": -7, "b": 2.5, "c": 40}.get, tokens)
    compiled = check(Aggregate(ALL, score), "abc", 4)
    assert compiled("ab") == [-2.25, -2.25]
    assert compiled("abc") == [pytest.approx(35.5 / 3)] * 3
    assert check(Aggregate(ALL, score) < -2, "abc", 4)("ab") == [True, True]


def test_averages_of_averages():
    mean_so_far = make_frac_prevs(Map({"a": -3, "b": 5}.get, tokens))
    twice = make_frac_prevs(mean_so_far)
    assert check(twice, "ab", 5, causal=True)("abb") == [-3, -1, pytest.approx((-3 + 1 + 7 / 3) / 3)]
    assert check(twice >= 0, "ab", 3, causal=True)("abb") == [False, False, True]


def test_averages_too_many_to_list_come_within_their_error():
    compiled = check(make_frac_prevs(tokens == "a"), "ab", 480, causal=True, samples=1)
    facts = compiled.lowered.inference.facts[compiled.lowered.core]
    assert facts.values is None
    assert facts.error < 4e-5
    found = compiled("a" * 7 + "b" * 473)
    assert all(abs(x - 7 / (i + 1)) <= facts.error for i, x in enumerate(found) if i >= 7)


def test_a_word_is_copied_from_several_positions_that_agree():
    same = Select(tokens, tokens, Comparison.EQ)
    # Seven weights of 1/7 do not sum to one in float32: what reads the word must not let that grow.
    word = Aggregate(same, Map(lambda t: t + t, tokens))
    chain = SequenceMap(lambda x, y: (x, y), word, SelectorWidth(same))
    for _ in range(6):
        chain = Map(lambda v: (*v[:-1], -v[-1]), chain)
    assert check(chain, "ab", 9)("a" * 7) == [("aa", 7)] * 7


def test_the_program_may_be_its_input():
    compiled = check(tokens, ("a", 1, True, 0.5), 3)
    found = compiled([True, 1, 0.5])
    assert [type(v) for v in found] == [bool, int, float]
    check(SequenceMap(lambda x, y: (x, y), tokens, indices), "a", 1)


def test_ranks_of_a_strict_order_prove_that_a_sort_copies_one_word():
    assert check(make_sort(tokens, tokens), "abc", 5)("cabab") == ["a", "a", "b", "b", "c"]


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_exactly_even_on_what_is_selected_and_zero_elsewhere(causal):
    compiled = rasp.compile(make_frac_prevs(tokens == "a"), vocab="ab", max_len=20, causal=causal, bos=True)
    pattern = pattern_of(compiled, "frac_prevs", "ab" * 10)
    for query in range(20):
        row = pattern[1 + query]
        assert torch.equal(row[1 : 2 + query], torch.full((query + 1,), 1 / (query + 1)))
        assert row[0] == 0
        assert torch.count_nonzero(row[2 + query :]) == 0


def pattern_of(compiled, label, xs):
    """The attention [query, key] of the head that computes an s-op."""
    (place,) = [(h.layer, h.head) for h in compiled.certificate.heads if h.label == label]
    name = f"blocks.{place[0]}.attn.hook_pattern"
    with torch.no_grad():
        _, cache = compiled.model.run_with_cache(compiled.encode([xs]), names_filter=name)
    return cache[name][0, place[1]]


@pytest.mark.parametrize(("reduction", "kept"), [("max", 1), ("min", 0), ("first", 0), ("last", 3)])
def test_a_reduction_attends_to_the_wanted_value_alone(reduction, kept):
    xs = [-2, 7, 0, 7] if reduction in ("max", "last") else [-2, 7, -2, 7]
    reduced = Aggregate(ALL, tokens, reduction=reduction).named("reduced")
    compiled = check(reduced, (-2, 0, 7), 4)
    pattern = pattern_of(compiled, "reduced", xs)[compiled.sink :, compiled.sink :]
    wanted = [i for i, x in enumerate(xs) if x == xs[kept]] if reduction in ("max", "min") else [kept]
    expected = torch.zeros(4, 4)
    expected[:, wanted] = 1 / len(wanted)
    assert torch.equal(pattern, expected)
    assert compiled(xs) == [xs[kept]] * 4


@pytest.mark.parametrize("vocab", [("b", "a", "ab"), (True, 1, 0, False), ((1, "x"), (0, "y"), (1, "a"))])
@pytest.mark.parametrize("reduction", ["max", "min"])
def test_the_greatest_and_the_least_go_by_the_order_of_the_values_not_of_the_vocabulary(vocab, reduction):
    check(Aggregate(ALL, tokens, reduction=reduction), vocab, 3)


def test_numbers_are_averaged_where_words_could_have_been_but_are_not():
    """A mean of numbers is defined, so that no certificate may assume it away; one of a word and a number is not."""
    report = check(Aggregate(ALL, tokens), (1, 2, "x"), 3).verify()
    assert (report.inputs, report.undefined) == (2 + 4 + 8 + 3, 39 - 17), "numbers alone, and 'x' alone"
    table = ConstantSelector(((1, 0), (1, 1)), check_length=False)
    inner = Aggregate(table, indices, default="none", reduction="mean")
    assert check(Aggregate(ALL, inner), "ab", 3, causal=True)("aa") == [0, 0.25]


def test_the_sink_holds_what_the_compiler_says_whatever_the_input():
    program = shift_by(1, make_frac_prevs(tokens == "a"))
    compiled = rasp.compile(program, vocab="ab", max_len=9)
    _, cache = compiled.model.run_with_cache(compiled.encode(["abbabaaab", "bbbbbbbbb"]))
    last = cache[f"blocks.{compiled.model.cfg.n_layers - 1}.hook_resid_post"][:, 0]
    held = {label: float(x) for label, x in zip(compiled.labels, last[0], strict=True) if x != 0}
    assert held == {"sink": 1.0, "shift_by(1)=None": 1.0}
    assert torch.equal(last[0], last[1])


@pytest.mark.parametrize("max_len", [4, 40])
def test_scores_are_exact_whatever_the_length(max_len):
    compiled = rasp.compile(shift_by(1, tokens), vocab="ab", max_len=max_len)
    name = "blocks.0.attn.hook_attn_scores"
    _, cache = compiled.model.run_with_cache(compiled.encode(["ab" * 2]), names_filter=name)
    scores = cache[name][0, 0, 1:]
    assert compiled.model.cfg.d_head == 3, "classes of positions need two dims, and the sink one"
    selected = scores[torch.arange(1, 4), torch.arange(1, 4)]
    assert torch.equal(selected, torch.zeros(3))
    others = scores[1:].clone()
    others[torch.arange(3), torch.arange(1, 4)] = -math.inf
    assert others.max() <= -104
    assert torch.equal(scores, scores.round()), "whole numbers of nats, which float32 holds exactly"

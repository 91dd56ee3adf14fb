"""What cannot be compiled or run is refused in one sentence that names the expression."""

import functools

import pytest

from microtome.lab import rasp
from microtome.lab.rasp import (
    Aggregate,
    Comparison,
    Full,
    Map,
    Select,
    SelectorWidth,
    SequenceMap,
    indices,
    length,
    tokens,
)
from microtome.lab.rasp.compiler import emit
from microtome.lab.rasp.library import make_frac_prevs, make_hist, make_sort

ALL = Select(tokens, tokens, Comparison.TRUE)


def refusal(kind, call):
    with pytest.raises(kind) as error:
        call()
    assert isinstance(error.value, rasp.RaspError)
    assert isinstance(error.value, ValueError)
    sentence = str(error.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("tokens_given", "sentence"),
    [
        ("", "an input has 1 to 3 tokens (max_len), not 0"),
        ("abab", "an input has 1 to 3 tokens (max_len), not 4"),
        ("ac", "token 'c' is not in the vocabulary 'a', 'b'"),
        ([1], "token 1 is not in the vocabulary 'a', 'b'"),
        ([None], "token None is not in the vocabulary"),
        ([["a"]], "token ['a'] is not in the vocabulary"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_inputs(tokens_given, sentence):
    compiled = rasp.compile(make_hist(), vocab="ab", max_len=3)
    found = refusal(rasp.InputError, lambda: compiled(tokens_given))
    assert sentence in found
    assert found.endswith("(in SelectorWidth(same_token).named('hist'))")


def test_a_near_token_is_offered():
    compiled = rasp.compile(make_hist(), vocab=["open", "close"], max_len=3)
    assert "did you mean 'close'?" in refusal(rasp.InputError, lambda: compiled(["closed"]))


def test_a_batch_to_encode_has_one_length():
    compiled = rasp.compile(make_hist(), vocab="ab", max_len=3)
    assert "inputs of one length, not of [1, 2]" in refusal(rasp.InputError, lambda: compiled.encode(["a", "ab"]))


@pytest.mark.parametrize(
    ("program", "options", "sentence"),
    [
        (make_hist(), {"max_len": 0}, "max_len must be a whole number of at least 1, not 0"),
        (make_hist(), {"vocab": ()}, "must hold at least one token"),
        (make_hist(), {"vocab": ("a", None)}, "and not None"),
        (make_hist(), {"vocab": (1, float("nan"))}, "the vocabulary cannot hold this token: nan is not finite"),
        (Aggregate(ALL, SequenceMap(max, tokens == "b", indices)), {}, "mixes True with numbers"),
        (
            Map(lambda x: x > 0.5, make_frac_prevs(tokens == "a")),
            {"max_len": 600},
            "frac_prevs is an average with more than 65536 possible values",
        ),
        (
            make_sort(tokens, tokens),
            {"vocab": range(64), "max_len": 33},
            "its arguments have 2112 and 2112 values, so more than 4194304 pairs",
        ),
        (Aggregate(ALL, Map({"a": 2.0**101, "b": 0}.get, tokens)), {}, "held in float32 up to 1.27e+30"),
        (length - 1, {"causal": True}, "a causal model cannot see the length of the whole input"),
        (make_hist(), {"bos": False}, "hist needs a position in front of the input to attend to when it selects"),
        (make_hist(), {"optimize": 2}, "optimize must be 0 or 1, not 2"),
    ],
)
def test_programs(program, options, sentence):
    found = refusal(rasp.CompileError, lambda: rasp.compile(program, **{"vocab": "ab", "max_len": 3} | options))
    assert sentence in found
    assert "(in " in found or "max_len must be" in found


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("program", "options", "sentence"),
    [
        (ALL, {}, "only an s-op can be compiled, not Select Select(tokens, tokens, TRUE); take its SelectorWidth or"),
        ("tokens", {}, "only an s-op can be compiled, not str 'tokens'"),
        (make_hist(), {"max_len": 2.5}, "max_len must be a whole number of at least 1, not 2.5"),
        (make_hist(), {"vocab": [["a"]]}, "the vocabulary cannot hold this token: unhashable type: 'list'"),
    ],
)
def test_arguments_of_another_kind(program, options, sentence):
    call = functools.partial(rasp.compile, program, **{"vocab": "ab", "max_len": 3} | options)
    assert sentence in refusal(rasp.CompileError, call)


def test_models_too_large_to_hold(monkeypatch):
    monkeypatch.setattr(emit, "MAX_PARAMETERS", 1000)
    call = functools.partial(rasp.compile, make_sort(tokens, tokens), vocab="ab", max_len=30)
    assert "parameters, more than 1,000; compile for a smaller max_len" in refusal(rasp.CompileError, call)


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (1 / (0 * make_hist()), "not defined on 0: ZeroDivisionError: division by zero (in 1 / "),
        (tokens + indices, "not defined on 'a', 0: TypeError"),
        (SelectorWidth(Select(tokens, indices, Comparison.LT)), "not defined on 'a', 0: TypeError"),
        (Map(lambda t: {t}, tokens), "not defined on 'a': TypeError: unhashable"),
    ],
)
def test_functions_that_fail_on_a_value(program, sentence):
    assert sentence in refusal(rasp.UndefinedError, lambda: rasp.compile(program, vocab="ab", max_len=3))


def test_what_fails_by_arithmetic_on_some_values_is_assumed_not_to_happen():
    compiled = rasp.compile(1 / (make_hist() - 1), vocab="ab", max_len=3)
    (assumed,) = compiled.certificate.assumptions
    assert "not defined on 0: ZeroDivisionError" in assumed
    assert compiled("aa") == [1, 1]
    report = compiled.verify()
    assert report.equal
    assert (report.inputs, report.undefined) == (2 + 2, 2 + 2 + 6), "inputs in which every token is repeated are left"


@pytest.mark.parametrize(
    ("program", "causal", "selector", "undefined"),
    [
        (Aggregate(ALL, tokens), False, "TRUE", 2 + 6),
        # Among earlier keys ranks are distinct too, which is only not proved.
        (make_sort(tokens, tokens), True, "EQ", 0),
    ],
)
def test_words_that_may_be_averaged_are_assumed_to_be_equal(program, causal, selector, undefined):
    compiled = rasp.compile(program, vocab="ab", max_len=3, causal=causal)
    (assumed,) = compiled.certificate.assumptions
    assert selector in assumed
    assert assumed.endswith("never selects two different values of tokens")
    report = compiled.verify()
    assert report.equal
    assert report.undefined == undefined


def test_programs_that_never_read_tokens_compile():
    compiled = rasp.compile(indices * 2, vocab="ab", max_len=3)
    assert compiled("aba") == [0, 2, 4]
    assert rasp.compile(Full("x"), vocab="ab", max_len=3)("ab") == ["x", "x"]

"""Programs written for tracr's `rasp` module run with this one in its place: names, arguments and values."""

import inspect

import pytest

from microtome.lab import rasp


def make_length():
    everything = rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.TRUE).named("everything")
    return rasp.SelectorWidth(everything).named("length")


def make_reverse(sop: rasp.SOp) -> rasp.SOp:
    opposite = (make_length() - rasp.indices).named("opposite")
    at_opposite = rasp.Select(rasp.indices, opposite - 1, rasp.Comparison.EQ)
    return rasp.Aggregate(at_opposite, sop).named("reverse")


def make_fraction(bools: rasp.SOp) -> rasp.SOp:
    so_far = rasp.Select(rasp.indices, rasp.indices, rasp.Comparison.LEQ)
    return rasp.numerical(rasp.Aggregate(so_far, rasp.numerical(bools), default=0)).named("fraction")


def make_balance(opening: str, closing: str) -> rasp.SOp:
    opens, closes = make_fraction(rasp.tokens == opening), make_fraction(rasp.tokens == closing)
    return rasp.numerical(rasp.LinearSequenceMap(opens, closes, 1, -1)).named("balance")


def make_matched(opening: str, closing: str) -> rasp.SOp:
    balance = make_balance(opening, closing)
    everywhere = rasp.Select(rasp.indices, rasp.indices, rasp.Comparison.TRUE)
    dipped = rasp.Aggregate(everywhere, rasp.numerical(rasp.Map(lambda x: x, balance < 0)), default=0)
    at_end = rasp.Select(rasp.indices, make_length() - 1, rasp.Comparison.EQ)
    return (rasp.Aggregate(at_end, balance == 0) & ~rasp.numerical(dipped)).named("matched")


def make_sort(vals: rasp.SOp, keys: rasp.SOp, *, max_seq_len: int, min_key: float) -> rasp.SOp:
    distinct = rasp.SequenceMap(lambda x, i: x + min_key * i / max_seq_len, keys, rasp.indices)
    rank = rasp.SelectorWidth(rasp.Select(distinct, distinct, rasp.Comparison.LT)).named("rank")
    return rasp.Aggregate(rasp.Select(rank, rasp.indices, rasp.Comparison.EQ), vals).named("sort")


def make_by_frequency(max_seq_len: int) -> rasp.SOp:
    same = rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.EQ)
    counts = -1 * rasp.SelectorWidth(same).named("counts")
    return make_sort(rasp.tokens, counts, max_seq_len=max_seq_len, min_key=1)


def shift_by(offset: int, sop: rasp.SOp) -> rasp.SOp:
    behind = rasp.Select(rasp.indices, rasp.indices, lambda k, q: q == k + offset)
    return rasp.Aggregate(behind, sop, default=None).named(f"shift_by({offset})")


def has_before(sop: rasp.SOp) -> rasp.SOp:
    earlier = rasp.SelectorAnd(
        rasp.Select(sop, sop, rasp.Comparison.EQ), rasp.Select(rasp.indices, rasp.indices, rasp.Comparison.LT)
    )
    return rasp.Aggregate(earlier, rasp.Full(1), default=0) > 0


def n_ary(f, first: rasp.SOp, *rest: rasp.SOp) -> rasp.SOp:
    """The way to a function of three s-ops where SequenceMap takes two."""
    for sop in rest:
        first = rasp.SequenceMap(lambda x, y: (*x, y) if isinstance(x, tuple) else (x, y), first, sop)
    return rasp.Map(lambda arguments: f(*arguments), first)


EVERYWHERE = rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.TRUE)


@pytest.mark.parametrize(
    ("program", "xs", "values"),
    [
        (rasp.categorical(make_length()), "abc", [3.0, 3.0, 3.0]),
        (rasp.numerical(make_length()), "c", [1]),
        (make_reverse(rasp.tokens), "abcd", list("dcba")),
        (make_fraction(rasp.tokens == "l"), "hello", [0.0, 0.0, 1 / 3, 1 / 2, 2 / 5]),
        (make_balance("(", ")"), "a()b(c))", [0, 1 / 2, 0, 0, 1 / 5, 1 / 6, 0, -1 / 8]),
        (make_matched("(", ")"), "(())", [1, 1, 1, 1]),
        (make_matched("(", ")"), "())(", [0, 0, 0, 0]),
        (make_sort(rasp.tokens, rasp.tokens, max_seq_len=5, min_key=1), [2, 4, 1, 2], [1, 2, 2, 4]),
        (make_sort(rasp.tokens, 1 - rasp.indices, max_seq_len=5, min_key=1), "abcd", list("dcba")),
        (make_by_frequency(5), [2, 4, 2, 1], [2, 2, 4, 1]),
        (shift_by(2, rasp.tokens), "abcd", [None, None, "a", "b"]),
        (shift_by(1, rasp.tokens == "a") & (rasp.tokens == "b"), "abaa", [None, True, False, False]),
        (has_before(rasp.tokens), "helllo", [0, 0, 0, 1, 1, 0]),
        (n_ary(lambda x, y, z: x * y / z, rasp.indices, rasp.indices, rasp.tokens), [1, 2, 3], [0, 1 / 2, 4 / 3]),
        # Those that tracr interprets and cannot compile.
        (rasp.Aggregate(EVERYWHERE, rasp.numerical(rasp.Map(lambda x: x, rasp.tokens))), [1, 3, 2], [2, 2, 2]),
        (rasp.numerical(rasp.Aggregate(EVERYWHERE, rasp.tokens, default=1)), [1, 2], [1.5, 1.5]),
        (rasp.categorical(rasp.LinearSequenceMap(rasp.indices, rasp.tokens, 1, 1)), [1, 3], [1, 4]),
        (rasp.numerical(rasp.tokens), [1, 3], [1, 3]),
    ],
)
def test_programs_in_its_style_mean_the_same(program, xs, values):
    assert program(xs) == values
    assert rasp.evaluate(program, list(xs)) == values


def test_widths_are_causal_where_asked():
    width = rasp.SelectorWidth(rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.TRUE))
    assert rasp.evaluate(width, "abcd", causal=True) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        (rasp.Map, ["f", "inner", "simplify"]),
        (rasp.Full, ["fill"]),
        (rasp.ConstantSOp, ["value", "check_length"]),
        (rasp.LinearSequenceMap, ["fst", "snd", "fst_fac", "snd_fac"]),
        (rasp.Select, ["keys", "queries", "predicate"]),
        (rasp.SelectorAnd, ["fst", "snd"]),
        (rasp.SelectorOr, ["fst", "snd"]),
        (rasp.SelectorNot, ["inner"]),
        (rasp.ConstantSelector, ["value", "check_length"]),
        (rasp.SelectorWidth, ["selector"]),
        (rasp.Aggregate, ["selector", "sop", "default"]),
        (rasp.selector_and, ["fst", "snd", "simplify"]),
        (rasp.selector_or, ["fst", "snd", "simplify"]),
        (rasp.selector_not, ["inner", "simplify"]),
    ],
)
def test_arguments_have_its_names_and_order(build, parameters):
    assert list(inspect.signature(build).parameters)[: len(parameters)] == parameters


def test_kinds_and_helpers_have_its_names():
    assert isinstance(rasp.tokens, rasp.TokensType)
    assert isinstance(rasp.indices, rasp.IndicesType)
    assert isinstance(rasp.length, rasp.LengthType)
    assert issubclass(rasp.SOp, rasp.RASPExpr)
    assert issubclass(rasp.Selector, rasp.RASPExpr)
    assert [comparison.value for comparison in rasp.Comparison] == ["==", "<", "<=", ">", ">=", "!=", "True", "False"]
    sop = rasp.annotate(rasp.tokens, name="x", encoding=rasp.Encoding.NUMERICAL)
    assert sop.annotations["name"] == sop.name == "x"
    assert rasp.get_encoding(sop) == rasp.Encoding.NUMERICAL
    assert rasp.sop_not(rasp.tokens)([True, False]) == [False, True]


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        (rasp.tokens, "tokens"),
        (rasp.length, "length"),
        (rasp.tokens + 1, "map"),
        (rasp.tokens + rasp.indices, "sequence_map"),
        (rasp.LinearSequenceMap(rasp.tokens, rasp.tokens, 1, 2), "linear_sequence_map"),
        (rasp.Full(1), "full"),
        (rasp.ConstantSOp([1]), "constant_sop"),
        (rasp.SelectorWidth(EVERYWHERE), "selector_width"),
        (rasp.Aggregate(EVERYWHERE, rasp.tokens), "aggregate"),
        (EVERYWHERE, "select"),
        (~EVERYWHERE, "selector_not"),
        (rasp.ConstantSelector([[True]]), "constant_selector"),
    ],
)
def test_what_has_no_name_is_annotated_with_its_kind(expression, name):
    assert expression.annotations["name"] == name
    assert expression.name is None
    assert expression.copy().named("foo").annotations["name"] == "foo"


def test_a_chain_of_maps_stays_as_it_is_written():
    chain = rasp.Map(lambda x: x + 2, rasp.tokens * 2, simplify=False)
    assert chain([1]) == [4]
    assert rasp.Map(lambda x: x + 2, chain.inner, simplify=True).inner is chain.inner

"""The exported program: it says what the discrete network says, needs nothing, and can be read."""

import ast
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.lab.rasp.learned import transformer_programs as tp
from microtome.lab.rasp.learned.data import Examples
from microtome.lab.rasp.learned.ladder import condition, predicate, returns
from microtome.lab.rasp.learned.network import TransformerProgram
from microtome.lab.rasp.learned.options import BOS, EOS, PAD, Options
from microtome.lab.rasp.learned.program import Classifier, Table

TOKENS, POSITIONS = 0, 1
SIZES = st.fixed_dictionaries(
    {
        "letters": st.sampled_from(["a", "ab", "abc"]),
        "n_classes": st.integers(1, 4),
        "n_ctx": st.integers(1, 5),
        "n_layers": st.integers(1, 3),
        "n_cat_heads": st.integers(0, 3),
        "n_num_heads": st.integers(0, 3),
        "n_cat_mlps": st.integers(0, 2),
        "n_num_mlps": st.integers(0, 2),
        "n_embeddings": st.integers(0, 2),
        "causal": st.booleans(),
    }
)


def sentences_of(options, most: int = 200) -> list[list[str]]:
    """All sentences, or so many of them evenly spaced."""
    words = options.tokens[1:]
    every = [list(s) for n in range(1, options.n_ctx + 1) for s in product(words, repeat=n)]
    return every[:: -(-len(every) // most)]


@settings(max_examples=40)
@given(sizes=SIZES, seed=st.integers(0, 2**31), whole=st.booleans())
def test_the_argmax_network_is_its_program_for_random_parameters(random_network, sizes, seed, whole):
    """In float64, where scores that differ at all differ by more than rounding; in whole numbers, where ties occur."""
    model = random_network(seed, **sizes)
    if whole:
        with torch.no_grad():
            model.W_U.mul_(2).round_()
    assert tp.disagreements(model, tp.export(model), sentences_of(model.options)) == []


@pytest.mark.parametrize("causal", [False, True])
def test_program_and_network_put_the_self_match_last(options, set_head, causal):
    """8 words, query 1, matches {1, 6}: both attend to 6 (a program that ranks the self-match at the number of matches
    would stay at 1). In a causal network 6 is not seen yet."""
    model = TransformerProgram(options(n_ctx=8, n_num_heads=0, n_cat_mlps=0, n_num_mlps=0, n_classes=4, causal=causal))
    set_head(model.blocks[0].attn, 0, POSITIONS, TOKENS, POSITIONS, [2] * 8)
    with torch.no_grad():
        model.W_U.zero_()
        for position, said in ((1, 1), (6, 2)):
            model.W_U[2 * 8 + position, said] = 1
    sentence = list("babbbbab")
    assert model.predict([sentence])[0][1] == ("x" if causal else "y")
    assert tp.disagreements(model, tp.export(model), [sentence]) == []


def test_the_most_frequent_output_is_the_default_and_equal_gates_give_one_argument(random_network):
    model = random_network(2, n_cat_mlps=3, n_num_mlps=3, n_ctx=5)
    with torch.no_grad():
        for lookups in (model.blocks[0].mlp, model.blocks[0].num_mlp):
            lookups.gate.logits[0] = lookups.gate.logits[0, :1]
    tables = {step.name: step for step in tp.read(model).steps if isinstance(step, Table)}
    assert {len(table.reads) for table in tables.values()} == {1, 2}
    assert all(len(tables[name].reads) == 1 for name in ("mlp_0_0", "num_mlp_0_0") if name in tables)
    tree = ast.parse(tp.export(model))
    for table in tables.values():
        if len(table.reads) == 1:
            (function,) = (f for f in tree.body if getattr(f, "name", "") == f"{table.name}_table")
            counts = table.outputs.bincount()
            assert counts[function.body[-1].value.value] == counts.max()


def test_counts_beyond_the_sentence_length_are_in_the_table(options, set_head):
    """A count in the second layer adds counts of the first up: up to n², which the table of its MLP must know."""
    model = TransformerProgram(options(n_layers=2, n_cat_heads=0, n_cat_mlps=0, n_classes=4), seed=3).double()
    for layer, value in ((0, 0), (1, 1)):
        set_head(model.blocks[layer].num_attn, 0, TOKENS, TOKENS, value, [0, 1, 2, 3, 4])
    lookups = model.blocks[1].num_mlp
    with torch.no_grad():  # says 0 up to 9 and 1 from 10 on
        lookups.gate.logits.zero_()[..., 2] = 1
        for parameter in (lookups.W_in, lookups.b_in, lookups.W_out, lookups.b_out):
            parameter.zero_()
        lookups.W_in[0, 0, 0], lookups.b_in[0, 0], lookups.W_out[0, 0, 1], lookups.b_out[0, 0] = 1, -9, 4, 2
    (table,) = (step for step in tp.read(model).steps if step.name == "num_mlp_1_0")
    assert table.mapping() == {count: int(count >= 10) for count in range(26)}
    assert tp.disagreements(model, tp.export(model), sentences_of(model.options)) == []


def test_the_program_needs_nothing_but_python(random_network):
    tree = ast.parse(tp.export(random_network(n_layers=2, n_cat_heads=2, n_embeddings=1)))
    assert not any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(tree))
    kinds = (ast.FunctionDef, ast.Assign, ast.Expr)
    assert all(isinstance(node, kinds) for node in tree.body)


def test_markers_stand_for_themselves():
    options = Options((PAD, BOS, EOS, "a"), (PAD, "x", BOS), 4, 1, 4, 1, 1, 1, 1)
    model = TransformerProgram(options)
    run = tp.run_source(tp.export(model))
    assert run([BOS, "a", "a", EOS])[::3] == model.predict([[BOS, "a", "a", EOS]])[0][::3] == [BOS, EOS]


def counter(options, set_head) -> TransformerProgram:
    """Says x for a word that stands alone, y for one that is there twice, z for more; one useless head beside it."""
    model = TransformerProgram(options(n_cat_mlps=0, n_num_mlps=0))
    set_head(model.blocks[0].num_attn, 0, TOKENS, TOKENS, 0, [0, 1, 2, 3, 4])
    ones, count = model.options.d_model - 2, model.options.d_model - 1
    with torch.no_grad():
        model.W_U.zero_()
        model.W_U[ones, 1:] = torch.tensor([3.0, 1.5, -1.5])
        model.W_U[count, 1:] = torch.tensor([0.0, 1.0, 2.25])
    return model


def test_a_counting_network_reads_as_one_would_write_it(options, set_head):
    source = tp.export(counter(options, set_head))
    assert "the answer depends on 1" in source
    assert (
        "    ones = [1] * len(tokens)\n\n    # Layer 0\n"
        "    num_attn_0_0 = aggregate_sum(select(tokens, tokens, num_attn_0_0_matches), ones)\n\n"
        "    answers = list(map(answer, num_attn_0_0))\n"
        '    return [token if token == "<s>" else said for token, said in zip(tokens, answers)]\n'
    ) in source
    assert "def num_attn_0_0_matches(token, key_token):\n    return key_token == token\n" in source
    assert (
        "def answer(num_attn_0_0):\n    if num_attn_0_0 <= 1:\n"
        '        return "x"\n    if num_attn_0_0 == 2:\n        return "y"\n    return "z"\n'
    ) in source
    assert "select_closest" not in source
    assert "POINTS" not in source


def test_what_does_not_matter_is_left_out(random_network):
    model = random_network(n_layers=2, n_cat_heads=2)
    with torch.no_grad():
        model.W_U[4:] = 0
    program = tp.read(model)
    assert program.steps == ()
    assert program.answer.reads == ("tokens",)
    with torch.no_grad():
        model.W_U.zero_()
    source = tp.export(model)
    assert 'answers = ["x"] * len(tokens)' in source
    assert tp.disagreements(model, source, sentences_of(model.options)) == []


def test_whole_points_are_counted_from_the_worst_class(random_network):
    model = random_network(n_cat_heads=2)
    with torch.no_grad():
        model.W_U.mul_(8).round_().div_(8)
    answer = tp.read(model).answer
    assert isinstance(answer, Classifier)
    rows = [row for rows in answer.points.values() for row in rows.values()] + list(answer.rates.values())
    assert rows
    assert all(min(row) == 0 and all(type(p) is int for p in row) for row in rows)


def test_points_of_a_float32_network_are_its_weights_as_short_decimals(random_network):
    model = random_network(n_cat_heads=2).float()
    answer = tp.read(model).answer
    (tokens,) = (v for v in model.options.variables if v.name == "tokens")
    for i, word in enumerate(model.options.tokens[1:], start=1):
        row = answer.points["tokens"][word]
        assert torch.equal(torch.tensor(row), model.W_U[tokens.start + i, 1:].detach())
        assert all(len(repr(abs(number))) <= 13 for number in row)


def test_simplifying_loses_no_tag_and_drops_what_was_not_needed(options, set_head):
    model = counter(options, set_head)
    sentences = sentences_of(model.options)
    tags = [[PAD if tag == BOS else tag for tag in tags] for tags in model.predict(sentences)]
    examples = Examples(tuple(sentences), tuple(tags))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model.W_U += 0.02 * torch.randn(model.W_U.shape, generator=generator)
    assert tp.accuracy(model, examples) > 0.9
    simple = tp.simplified(model, examples)
    assert tp.accuracy(simple, examples) >= tp.accuracy(model, examples)
    source = tp.export(simple)
    assert len(source.splitlines()) < 45 < len(tp.export(model).splitlines())
    assert tp.disagreements(simple, source, sentences) == []
    assert not torch.equal(model.W_U, simple.W_U)
    with pytest.raises(ValueError, match="give examples of which at least one word has a tag"):
        tp.simplified(model, Examples(([BOS],), ([PAD],)))


@given(
    domain=st.sets(st.integers(0, 12), min_size=1) | st.sets(st.sampled_from('abc"\\é'), min_size=1),
    data=st.data(),
)
def test_conditions_are_true_where_they_should_be(domain, data):
    ordered = sorted(domain)
    values = data.draw(st.sets(st.sampled_from(ordered), min_size=1))
    text = condition("x", list(values), ordered)
    assert {x for x in domain if eval(text, {"x": x})} == values


@given(data=st.data())
def test_tables_return_their_outputs(data):
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=2))
    outputs = torch.tensor(
        data.draw(st.lists(st.integers(0, 3), min_size=(n := torch.Size(sizes).numel()), max_size=n))
    )
    domains = [range(sizes[0]), ["a", "b", "c", "d", "e"][: sizes[-1]]][: len(sizes)]
    table = Table("t", ("p", "q")[: len(sizes)], tuple(domains), outputs.reshape(sizes))
    arguments = ["p", "q"][: len(sizes)]
    text = "\n    ".join([f"def t({', '.join(arguments)}):", *returns(arguments, table, str)])
    namespace = {}
    exec(text, namespace)
    found = [namespace["t"](*values) for values in product(*domains)]
    assert found == outputs.tolist()


@given(wanted=st.dictionaries(st.integers(0, 6), st.none() | st.integers(0, 6), min_size=1))
def test_predicates_match_what_is_wanted(wanted):
    text = "\n    ".join(["def match(q, k):", *predicate("q", "k", wanted)])
    namespace = {}
    exec(text, namespace)
    for value, sought in wanted.items():
        assert [namespace["match"](value, key) for key in range(7)] == [key == sought for key in range(7)]


def test_a_shift_of_positions_is_written_as_one():
    lines = predicate("position", "key_position", {i: i - 1 if i else None for i in range(6)})
    assert lines == ["if position == 0:", "    return False", "return key_position == position - 1"]


def test_text_without_run_is_refused():
    with pytest.raises(ValueError, match=r"defines no function run\(tokens\)"):
        tp.run_source("answer = 42")

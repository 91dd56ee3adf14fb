"""What some examples are for, done whole: copies, sums and counts written token by token, and tracr's own cases."""

import random

import pytest

from microtome.lab import rasp
from microtome.lab.rasp.library import examples, make_nary_sequencemap, shift_by

EXAMPLES = {example.name: example for example in examples()}


def run(name, xs):
    return rasp.evaluate(EXAMPLES[name].program, xs, causal=EXAMPLES[name].causal)


def written(name, prompt, steps):
    """What the program adds to the prompt when each token that it predicts is appended to its input."""
    xs = list(prompt)
    for _ in range(steps):
        xs.append(run(name, xs)[-1])
    return xs[len(prompt) :]


@pytest.mark.parametrize("seed", range(3))
def test_copying(seed):
    draw = random.Random(seed)
    unique = draw.sample("abc", k=3)
    assert written("copy_unique", [*unique, "="], 3) == unique
    repeated = draw.choices("ab", k=9)
    assert written("copy_by_position", [*repeated, "="], 9) == repeated
    hinted = [x for hint, bit in zip("CAB", draw.choices("01", k=3), strict=True) for x in (hint, bit)]
    assert written("copy_with_hints", [*hinted, "C"], 5) == hinted[1:]


@pytest.mark.parametrize("seed", range(3))
def test_writing_the_different_tokens_in_order(seed):
    prompt = random.Random(seed).choices((0, 1, 2, 3), k=6)
    ordered = sorted(set(prompt))
    assert written("sort_next", [*prompt, "="], len(ordered) + 1) == [*ordered, None]


@pytest.mark.parametrize(("low", "high", "line"), [(0, 3, [0, 1, 2, 3, "e"]), (1, 2, [1, 2, "e"]), (2, 2, [2, "e"])])
def test_counting_up(low, high, line):
    assert written("count_up", [3, 0, "s", low, high], len(line)) == line


@pytest.mark.parametrize("seed", range(3))
def test_the_scratchpad_ends_in_the_parity(seed):
    bits = random.Random(seed).choices((0, 1), k=11)
    pad = written("parity_scratchpad", [*bits, "="], 11)
    assert pad == [sum(bits[: i + 1]) % 2 for i in range(11)]


@pytest.mark.parametrize(("x", "y"), [(0, 0), (1, 1), (511, 1), (340, 171), (437, 294), (511, 511)])
def test_addition_of_binary_numbers_in_all_its_forms(x, y):
    columns = [int(a) + int(b) for a, b in zip(f"{x:010b}", f"{y:010b}", strict=True)]
    total = [int(bit) for bit in f"{x + y:011b}"]
    assert written("addition_forward", [*columns, "="], 11) == total
    assert written("addition_reversed", [*columns[::-1], "="], 11) == total[::-1]
    assert run("carry", [*columns[::-1], 0]) == total[::-1]
    digits = run("binary_addition", list(f"{x:b}+{y:b}"))
    assert int("".join(map(str, digits)), 2) == x + y


@pytest.mark.parametrize("sum_", ["7+5", "99999+1", "1+99999", "4567+6789", "0+0", "12+"])
def test_long_addition(sum_):
    digits = run("long_addition", list(sum_))
    assert int("".join(map(str, digits))) == sum(int(number or 0) for number in sum_.split("+"))


TRACR = [
    ("hist", "abac", [2, 1, 2, 1]),
    ("reverse", "abca", list("acba")),
    ("shift_by_one", "abca", [None, "a", "b", "c"]),
    ("shift_by", "abca", [None, None, "a", "b"]),
    ("detect_pattern_a", "bac", [False, True, False]),
    ("detect_pattern_ab", "aaba", [None, False, True, False]),
    ("detect_pattern", "abcabc", [None, None, True, False, False, True]),
    ("pair_balance", ".().(.))", [0, 1 / 2, 0, 0, 1 / 5, 1 / 6, 0, -1 / 8]),
    ("shuffle_dyck2", "({)}", [True] * 4),
    ("shuffle_dyck2", "(){)}", [False] * 5),
    ("shuffle_dyck2", "{}(", [False] * 3),
    ("shuffle_dyck3", "({)[}]", [True] * 6),
    ("shuffle_dyck3", "{}[(]", [False] * 5),
    ("sort_unique", [2, 0, 3, 1], [0, 1, 2, 3]),
    ("sort_unique_by_position", "abca", list("acba")),
    ("sort_min_key", [2, 4, 1, 2], [1, 2, 2, 4]),
    ("sort_freq", [2, 4, 2, 1], [2, 2, 4, 1]),
    ("count_less_freq", "aaabbc", [3] * 6),
    ("count_less_freq_numerical", "aacbbc", [6] * 6),
    ("count", "aaabbc", [3] * 6),
    ("nary_sum", [1, 2, 3], [2, 3, 4]),
    ("nary_ratio", [1, 2, 3], [0, 1 / 2, 4 / 3]),
    ("causal_width", "abca", [1, 2, 3, 4]),
]


@pytest.mark.parametrize(
    ("name", "xs", "wanted"), TRACR, ids=[f"{name}-{''.join(map(str, xs))}" for name, xs, _ in TRACR]
)
def test_the_outputs_that_tracr_states(name, xs, wanted):
    assert run(name, list(xs)) == wanted


PAPER = [
    ("double_hist", "abbccc", [1] * 6),
    ("double_hist", "aabbc", [2, 2, 2, 2, 1]),
    ("most_frequent", "abbccc", ["c", "b", "a", None, None, None]),
    ("dyck1_ptf", "(())(", list("PPPTP")),
    ("dyck1_ptf", "())(", list("PTFF")),
    ("dyck2_ptf", "({})(}", list("PPPTPF")),
    ("dyck3_ptf", "([{}])", list("PPPPPT")),
]


@pytest.mark.parametrize(("name", "xs", "wanted"), PAPER)
def test_what_the_papers_programs_are_for(name, xs, wanted):
    assert run(name, list(xs)) == wanted


def test_programs_are_made_for_other_arguments():
    total = make_nary_sequencemap(lambda *xs: sum(xs), rasp.tokens, shift_by(1, rasp.tokens, default=0), rasp.indices)
    assert rasp.evaluate(total, [5, 7, 9]) == [5, 13, 18]

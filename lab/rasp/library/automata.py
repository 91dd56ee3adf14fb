"""Finite automata that need no recurrence: states by counting, by the last reset, and by what has been seen so far.

Aperiodic automata (flip-flops, latches, registers) hang on the last position that set them; automata over solvable
groups (counters, the dihedral group) on counts: Liu et al. 2023, "Transformers Learn Shortcuts to Automata".
"""

import re
from collections.abc import Sequence
from functools import reduce
from operator import and_

from microtome.lab.rasp.language import (
    Aggregate,
    Comparison,
    Map,
    Select,
    SelectorWidth,
    SequenceMap,
    SOp,
    indices,
    tokens,
)
from microtome.lab.rasp.library.example import BITS, LETTERS, Example, at_each_prefix, everywhere, example
from microtome.lab.rasp.library.parts import (
    EVERYWHERE,
    any_of,
    count_of,
    count_so_far,
    holding,
    shift_by,
)
from microtome.lab.rasp.values import Value


def make_flip_flop() -> SOp:
    """The bit of memory after each token: "0" and "1" write it, "." keeps it; 0 at first."""
    written = Aggregate(holding(tokens != "."), tokens, default="0", reduction="last")
    return Map(lambda x: int(x == "1"), written.named("written")).named("flip_flop")


def make_counter(modulus: int) -> SOp:
    """The number of "+" up to each position, modulo a number."""
    return Map(lambda n: n % modulus, count_of(tokens == "+")).named("counter")


def make_counter_with_reset(modulus: int) -> SOp:
    """The number of "+" since the last "r", modulo a number."""
    last_reset = Aggregate(holding(tokens == "r"), indices, default=-1, reduction="last").named("last_reset")
    since = SelectorWidth(holding(tokens == "+") & Select(indices, last_reset, Comparison.GT)).named("since")
    return Map(lambda n: n % modulus, since).named("counter_with_reset")


def make_up_down_counter(modulus: int) -> SOp:
    """The number of "+" less that of "-" up to each position, modulo a number."""
    return Map(lambda n: n % modulus, count_of(tokens == "+") - count_of(tokens == "-")).named("up_down_counter")


def make_two_parities() -> SOp:
    """The parities of the "a" and of the "b" up to each position, as one number from 0 to 3."""
    a, b = (Map(lambda n: n % 2, count_of(tokens == letter)) for letter in "ab")
    return (a * 2 + b).named("two_parities")


def make_dihedral() -> SOp:
    """Where the corner of a triangle is after turns "r" and reflections "s" (of corners 1 and 2): 0, 1 or 2.

    A turn counts forwards or backwards by whether the reflections before it are even in number; with those after it
    this is the symmetric group of three things, which does not commute.
    """
    reflected = Map(lambda n: n % 2, count_so_far(tokens == "s")).named("reflected")
    turning = tokens == "r"
    forwards = count_so_far(turning & (reflected == 0)).named("forwards")
    backwards = count_so_far(turning & (reflected == 1)).named("backwards")
    turned = Map(lambda n: n % 3, forwards - backwards).named("turned")
    return SequenceMap(lambda turned, flip: -turned % 3 if flip else turned, turned, reflected).named("dihedral")


def make_two_registers() -> SOp:
    """The contents of two registers: "x" and "X" write 0 and 1 into the first, "y" and "Y" into the second."""
    first = Aggregate(holding((tokens == "x") | (tokens == "X")), tokens, default="x", reduction="last")
    second = Aggregate(holding((tokens == "y") | (tokens == "Y")), tokens, default="y", reduction="last")
    return SequenceMap(lambda one, other: f"{int(one == 'X')}{int(other == 'Y')}", first, second).named("two_registers")


def make_reflected_walk() -> SOp:
    """How long a queue is in which one comes at "+" and one, if any is there, goes at "-"."""
    height = count_of(tokens == "+") - count_of(tokens == "-")
    lowest = Map(lambda h: min(h, 0), Aggregate(EVERYWHERE, height, reduction="min")).named("lowest")
    return (height - lowest).named("reflected_walk")


def make_subsequence(letters: Sequence[Value]) -> SOp:
    """Whether the letters have come in this order by now, whatever is between them."""
    seen = any_of(tokens == letters[0])
    for letter in letters[1:]:
        seen = any_of((tokens == letter) & seen)
    return seen.named("subsequence")


def make_seen_double(letter: Value) -> SOp:
    """Whether the letter has come twice in a row by now."""
    return any_of((shift_by(1, tokens) == letter) & (tokens == letter)).named("seen_double")


def make_in_order(letters: Sequence[Value]) -> SOp:
    """Whether the tokens so far are in the order of these letters: a*b*c*."""
    place = Map({letter: i for i, letter in enumerate(letters)}.get, tokens)
    return (~any_of(shift_by(1, place) > place)).named("in_order")


def make_repeated_word(word: Sequence[Value]) -> SOp:
    """Whether the input up to each position is the word some number of times: (ab)*."""
    due = Map(lambda i: word[i % len(word)], indices).named("due")
    at_end = Map(lambda i: i % len(word) == len(word) - 1, indices)
    return (at_end & ~any_of(tokens != due)).named("repeated_word")


def make_even_blocks(letter: Value) -> SOp:
    """Whether every block of the letter up to each position, the last included, has even length: (aa|b)*."""
    other = Aggregate(holding(tokens != letter), indices, default=-1, reduction="last").named("other")
    block_is_odd = Map(lambda n: n % 2 == 1, indices - other).named("block_is_odd")
    ended_odd = (tokens != letter) & shift_by(1, block_is_odd)
    return (~(any_of(ended_odd) | block_is_odd)).named("even_blocks")


def make_equal_blocks(letters: Sequence[Value]) -> SOp:
    """Whether the input is a block of each letter in turn, all of one length: a^n b^n."""
    place = Map({letter: i for i, letter in enumerate(letters)}.get, tokens)
    sorted_ = ~any_of(shift_by(1, place) > place)
    first, *others = (count_of(tokens == letter) for letter in letters)
    return reduce(and_, [sorted_, *(first - other == 0 for other in others)]).named("equal_blocks")


def make_edge() -> SOp:
    """Whether the input changes at each position; at the first, whether it is not 0."""
    return (tokens != shift_by(1, tokens, default=0)).named("edge")


def make_followed_by(letter: Value, follower: Value) -> SOp:
    """Whether by now each of the letter but a last one has been directly followed by the follower."""
    broken = (shift_by(1, tokens) == letter) & (tokens != follower)
    return (~any_of(broken)).named("followed_by")


def examples() -> tuple[Example, ...]:
    """The programs above, all for causal models but the last."""

    def on(vocab, make, specification, *arguments, causal=True, **more):
        return example(make, *arguments, specification=specification, vocab=tuple(vocab), causal=causal, **more)

    def walked(start, step, shown=lambda state: state):
        return at_each_prefix(lambda xs: shown(reduce(step, xs, start)))

    def matched(pattern):
        return at_each_prefix(lambda xs: re.fullmatch(pattern, "".join(xs)) is not None)

    return (
        on("01.", make_flip_flop, walked(0, lambda state, x: state if x == "." else int(x))),
        on("+.", make_counter, walked(0, lambda state, x: (state + (x == "+")) % 5), 5),
        on("+r.", make_counter_with_reset, walked(0, lambda state, x: _counted(state, x, 3)), 3),
        on("+-.", make_up_down_counter, walked(0, lambda state, x: (state + {"+": 1, "-": 2}.get(x, 0)) % 3), 3),
        on("ab.", make_two_parities, walked(0, lambda state, x: state ^ {"a": 2, "b": 1, ".": 0}[x])),
        on("rs", make_dihedral, walked(0, lambda corner, x: (corner + 1) % 3 if x == "r" else (0, 2, 1)[corner])),
        on("xXyY.", make_two_registers, walked("00", _written)),
        on("+-.", make_reflected_walk, walked(0, lambda queue, x: max(0, queue + {"+": 1, "-": -1, ".": 0}[x]))),
        on(LETTERS, make_subsequence, matched(".*a.*b.*c.*"), "abc"),
        on(LETTERS, make_seen_double, matched(".*aa.*"), "a"),
        on(LETTERS, make_in_order, matched("a*b*c*"), "abc"),
        on("ab", make_repeated_word, matched("(ab)*"), "ab"),
        on("ab", make_even_blocks, matched("(aa|b)*"), "a"),
        on(BITS, make_edge, lambda xs: [x != before for before, x in zip([0, *xs], xs, strict=False)]),
        on(LETTERS, make_followed_by, matched("(ab|b|c)*a?"), "a", "b"),
        on("ab", make_equal_blocks, everywhere(lambda xs: xs == sorted("ab" * (len(xs) // 2))), "ab", causal=False),
        on(
            LETTERS,
            make_equal_blocks,
            everywhere(lambda xs: xs == sorted("abc" * (len(xs) // 3))),
            "abc",
            causal=False,
            name="three_equal_blocks",
        ),
    )


def _counted(state: int, x: Value, modulus: int) -> int:
    if x == "r":
        return 0
    return (state + 1) % modulus if x == "+" else state


def _written(state: str, x: Value) -> str:
    return {"x": "0" + state[1], "X": "1" + state[1], "y": state[0] + "0", "Y": state[0] + "1"}.get(x, state)

"""Bracket languages: Dyck-1, Dyck-k, shuffled and bounded ones; depths, partners and repairs.

The prefix languages ("ptf") say at each position "T" if the input up to there is balanced, "P" if it can still be
continued to a balanced one, and else "F": Weiss, Goldberg and Yahav 2021, section 5. A bracket's level is the depth
inside its pair, so it shares it with its partner, and between the two every level is greater.
"""

from collections.abc import Sequence
from functools import reduce
from operator import and_, or_

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
from microtome.lab.rasp.library.example import Example, at_each_prefix, everywhere, example
from microtome.lab.rasp.library.parts import (
    EARLIER,
    EVERYWHERE,
    LATER,
    SO_FAR,
    any_of,
    at,
    count_of,
    count_so_far,
    holding,
    is_one_of,
    make_length,
)
from microtome.lab.rasp.values import Value

ROUND, CURLY, SQUARE = "()", "{}", "[]"


def make_pair_balance(sop: SOp, open_token: Value, close_token: Value) -> SOp:
    """The fraction of opening tokens so far, less that of closing ones."""
    signs = {open_token: 1, close_token: -1}
    return Aggregate(SO_FAR, Map(lambda t: signs.get(t, 0), sop).named("sign"), default=0).named("pair_balance")


def make_balanced(open_token: Value, close_token: Value) -> SOp:
    """Whether every bracket of the input has its partner, at every position."""
    balance = make_pair_balance(tokens, open_token, close_token)
    below_zero = Aggregate(EVERYWHERE, balance < 0).named("below_zero")
    at_end = at(make_length() - 1, balance).named("at_end")
    return ((at_end == 0) & (below_zero == 0)).named("balanced")


def make_depth(pairs: Sequence[str]) -> SOp:
    """How many brackets have been opened up to each position, less those closed."""
    return (count_so_far(_opens(pairs)) - count_so_far(_closes(pairs))).named("depth")


def make_level(pairs: Sequence[str]) -> SOp:
    """The depth inside the pair that each bracket belongs to, and the depth at other tokens.

    All that was opened up to here less what was closed before: one more than the depth at a closing bracket.
    """
    return (count_so_far(_opens(pairs)) - SelectorWidth(holding(_closes(pairs)) & EARLIER)).named("level")


def _opens(pairs: Sequence[str]) -> SOp:
    return is_one_of(tokens, tuple(pair[0] for pair in pairs)).named("opens")


def _closes(pairs: Sequence[str]) -> SOp:
    return is_one_of(tokens, tuple(pair[1] for pair in pairs)).named("closes")


def make_shuffle_dyck(pairs: Sequence[str]) -> SOp:
    """Whether the brackets of each kind are balanced among themselves, at every position."""
    closed_early = reduce(or_, [any_of(make_depth([pair]) < 0) for pair in pairs])
    all_closed = reduce(and_, [count_of(tokens == pair[0]) - count_of(tokens == pair[1]) == 0 for pair in pairs])
    return (all_closed & ~closed_early).named("shuffle_dyck")


def make_shuffle_dyck_ptf(pairs: Sequence[str]) -> SOp:
    """The prefix language of brackets that are balanced within each kind: T, P or F."""
    depths = [make_depth([pair]) for pair in pairs]
    failed = reduce(or_, [any_of(depth < 0) for depth in depths])
    return _verdict(failed, reduce(and_, [depth == 0 for depth in depths])).named("shuffle_dyck_ptf")


def make_dyck1_ptf() -> SOp:
    """The prefix language of balanced round brackets: T, P or F."""
    depth = make_depth([ROUND])
    return _verdict(any_of(depth < 0), depth == 0).named("dyck1_ptf")


def make_bounded_dyck_ptf(bound: int) -> SOp:
    """The prefix language of balanced round brackets that are nested no deeper than the bound: T, P or F."""
    depth = make_depth([ROUND])
    return _verdict(any_of((depth < 0) | (depth > bound)), depth == 0).named("bounded_dyck_ptf")


def make_dyck_ptf(pairs: Sequence[str]) -> SOp:
    """The prefix language of balanced brackets of several kinds: T, P or F.

    The partner of a closing bracket is the last opening one before it at its level.
    """
    level = make_level(pairs)
    opener = holding(_opens(pairs)) & Select(level, level, Comparison.EQ) & EARLIER
    partner = Aggregate(opener, tokens, default="-", reduction="last")
    closing = {pair[1] for pair in pairs}
    mismatch = SequenceMap(lambda x, y: y in closing and x + y not in pairs, partner.named("partner"), tokens)
    return _verdict(any_of(mismatch), make_depth(pairs) == 0).named("dyck_ptf")


def make_max_depth() -> SOp:
    """How deep the brackets are nested, zero where they only close."""
    return Map(lambda d: max(d, 0), Aggregate(EVERYWHERE, make_depth([ROUND]), reduction="max")).named("max_depth")


def make_partner() -> SOp:
    """The position of each bracket's partner, −1 where it has none; None at other tokens."""
    level, one_on = make_level([ROUND]), indices + 1
    same_level = Select(level, level, Comparison.EQ)
    closes_it = Select(tokens, tokens, lambda key, query: key + query == ")(")
    opens_it = Select(tokens, tokens, lambda key, query: key + query == "()")
    # One of the two is zero at each bracket, so that the answer is a sum and needs no table of pairs.
    after = Aggregate(same_level & LATER & closes_it, one_on, default=0, reduction="first")
    before = Aggregate(same_level & EARLIER & opens_it, one_on, default=0, reduction="last")
    nothing = Map({"(": 0, ")": 0}.get, tokens)
    return (after + before - 1 + nothing).named("partner")


def make_innermost() -> SOp:
    """The bracket that was opened last and is still open, "-" if there is none; any kind closes any."""
    pairs = (ROUND, SQUARE)
    opener = holding(_opens(pairs)) & Select(make_level(pairs), make_depth(pairs), Comparison.EQ) & SO_FAR
    return Aggregate(opener, tokens, default="-", reduction="last").named("innermost")


def make_repairs() -> SOp:
    """How many brackets must be added for the input to be balanced."""
    lowest = Aggregate(EVERYWHERE, make_depth([ROUND]), reduction="min")
    missing_opens = Map(lambda d: max(-d, 0), lowest).named("missing_opens")
    surplus = (count_of(tokens == "(") - count_of(tokens == ")")).named("surplus")
    return (surplus + missing_opens * 2).named("repairs")


def make_first_error() -> SOp:
    """The position of the first closing bracket that nothing has opened, None if all were."""
    return Aggregate(holding(make_depth([ROUND]) < 0), indices, reduction="first").named("first_error")


def _verdict(failed: SOp, balanced: SOp) -> SOp:
    return SequenceMap(lambda bad, done: "F" if bad else "T" if done else "P", failed, balanced)


def examples() -> tuple[Example, ...]:
    """The programs above."""

    def on(brackets, make, specification, *arguments, **more):
        return example(make, *arguments, specification=specification, vocab=tuple(brackets), **more)

    def dyck(*pairs, bound=None):
        return at_each_prefix(lambda xs: _dyck(xs, pairs, bound))

    def shuffled(*pairs):
        return at_each_prefix(lambda xs: min((_dyck(xs, [pair]) for pair in pairs), key="FPT".index))

    def shuffle_balanced(*pairs):
        return everywhere(lambda xs: shuffled(*pairs)(xs)[-1] == "T")

    two, three = (ROUND, CURLY), (ROUND, CURLY, SQUARE)
    paper = {"origin": "rasp paper", "causal": True}
    return (
        on("().", make_pair_balance, at_each_prefix(_pair_balance), tokens, "(", ")", origin="tracr", causal=True),
        on("().", make_balanced, everywhere(lambda xs: _dyck(xs, [ROUND]) == "T"), "(", ")"),
        on("(){}", make_shuffle_dyck, shuffle_balanced(*two), two, origin="tracr", name="shuffle_dyck2"),
        on("(){}[]", make_shuffle_dyck, shuffle_balanced(*three), three, origin="tracr", name="shuffle_dyck3"),
        on("(){}", make_shuffle_dyck_ptf, shuffled(*two), two, name="shuffle_dyck2_ptf", **paper),
        on("().", make_dyck1_ptf, dyck(ROUND), **paper),
        on("(){}", make_dyck_ptf, dyck(*two), two, name="dyck2_ptf", **paper),
        on("(){}[]", make_dyck_ptf, dyck(*three), three, name="dyck3_ptf", **paper),
        on("()", make_bounded_dyck_ptf, dyck(ROUND, bound=2), 2, causal=True),
        on("().", make_depth, at_each_prefix(lambda xs: xs.count("(") - xs.count(")")), [ROUND]),
        on("()", make_max_depth, everywhere(_max_depth)),
        on("().", make_partner, _partner),
        on("()[].", make_innermost, at_each_prefix(_innermost)),
        on("()", make_repairs, everywhere(lambda xs: len(_reduced(xs)))),
        on("()", make_first_error, everywhere(_first_error)),
    )


def _pair_balance(xs: list[Value]) -> Value:
    return (xs.count("(") - xs.count(")")) / len(xs)


def _dyck(xs: list[Value], pairs: Sequence[str], bound: int | None = None) -> str:
    stack = []
    for x in xs:
        if any(x == pair[0] for pair in pairs):
            stack.append(x)
        elif any(x == pair[1] for pair in pairs) and (not stack or stack.pop() + x not in pairs):
            return "F"
        if bound is not None and len(stack) > bound:
            return "F"
    return "P" if stack else "T"


def _reduced(xs: list[Value]) -> str:
    text = "".join(xs)
    while ROUND in text:
        text = text.replace(ROUND, "")
    return text


def _max_depth(xs: list[Value]) -> int:
    return max(0, *(xs[:i].count("(") - xs[:i].count(")") for i in range(len(xs) + 1)))


def _partner(xs: list[Value]) -> list[Value]:
    answer, stack = [-1 if x in ROUND else None for x in xs], []
    for i, x in enumerate(xs):
        if x == "(":
            stack.append(i)
        elif x == ")" and stack:
            answer[i] = stack.pop()
            answer[answer[i]] = i
    return answer


def _innermost(xs: list[Value]) -> str:
    stack = []
    for x in xs:
        if x in "([":
            stack.append(x)
        elif x in ")]" and stack:
            stack.pop()
    return stack[-1] if stack else "-"


def _first_error(xs: list[Value]) -> Value:
    return next((i for i in range(len(xs)) if _dyck(xs[: i + 1], [ROUND]) == "F"), None)

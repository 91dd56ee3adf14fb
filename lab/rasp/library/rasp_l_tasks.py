"""The tasks of Zhou et al. 2023, "What Algorithms Can Transformers Learn?": the next token, predicted at each position.

What has been written after "=" so far is taken as given, so a model that continues its own output does the whole task.
There is a prediction on every input, of whatever form; it is None where nothing is to be written.
"""

from collections.abc import Callable

from microtome.lab.rasp.language import Aggregate, Comparison, Map, Select, SequenceMap, SOp, indices, tokens
from microtome.lab.rasp.library.example import LETTERS, NUMBERS, Example, at_each_prefix, example
from microtome.lab.rasp.library.parts import any_of, asked_by, at, holding, only_where, shift_by
from microtome.lab.rasp.values import Value

EQUALS, START, END = "=", "s", "e"
PROMPT_OVER = any_of(tokens == EQUALS).named("prompt_over")
IN_PROMPT = (~PROMPT_OVER).named("in_prompt")
WRITTEN = (indices - Aggregate(holding(tokens == EQUALS), indices, reduction="first")).named("written")
"""How many tokens stand after the first "="; None before it."""


def _of_prompt(place: SOp, sop: SOp, default: Value = None) -> SOp:
    """The value at a place of the prompt."""
    return Aggregate(Select(indices, place, Comparison.EQ) & holding(IN_PROMPT), sop, default=default)


def _bits() -> SOp:
    """The token as a number, "=" as zero."""
    return Map(lambda x: 0 if x == EQUALS else x, tokens)


def make_count_up() -> SOp:
    """The next number when counting from a first to a last, which stand behind the last start token; "e" at the end."""
    number = Map({n: n for n in NUMBERS}.get, tokens)
    start = Aggregate(holding(tokens == START), indices, reduction="last").named("start")
    low, high = at(start + 1, number).named("low"), at(start + 2, number).named("high")

    def following(x: int, low: int, high: int, is_first: bool) -> Value:
        if is_first:
            return low
        return END if x == high else (x + 1) % len(NUMBERS)

    return SequenceMap(following, number, low, high, indices - start == 2).named("count_up")


def make_copy_unique() -> SOp:
    """The next token when copying a prompt without repetitions, "=" at its end.

    Found by content alone: the token behind the first occurrence of this one, and behind nothing for the first.
    """
    predecessor = shift_by(1, tokens, default=EQUALS).named("predecessor")
    source = Aggregate(Select(predecessor, tokens, Comparison.EQ), indices, reduction="min").named("source")
    return only_where(PROMPT_OVER, at(source, tokens)).named("copy_unique")


def make_copy_by_position() -> SOp:
    """The next token when copying a prompt that may repeat itself, None at its end.

    By arithmetic on positions, which RASP-L does not have: copying with repetitions is its example of a task that
    transformers do not learn for all lengths.
    """
    return _of_prompt(WRITTEN, tokens).named("copy_by_position")


def make_copy_with_hints(hints: tuple[Value, ...]) -> SOp:
    """The next token when copying a prompt in which each token stands behind a hint of its own.

    Behind a hint, what stood behind its first occurrence; behind another token, what stood two behind the hint.
    """
    is_hint = Map(lambda x: x in hints, tokens)
    hint = SequenceMap(lambda x, before: x if x in hints else before, tokens, shift_by(1, tokens, default="-"))
    first = Aggregate(Select(tokens, hint.named("hint"), Comparison.EQ), indices, reduction="min").named("first")
    return at(first + Map(lambda x: 1 if x else 2, is_hint), tokens).named("copy_with_hints")


def make_sort_next() -> SOp:
    """The next token when writing down the different tokens of the prompt in order, None at the end."""
    level = Map(lambda x: -1 if x == EQUALS else x, tokens).named("level")
    greater = Select(level, level, Comparison.GT) & holding(IN_PROMPT) & asked_by(PROMPT_OVER)
    return Aggregate(greater, level, reduction="min").named("sort_next")


def make_parity_scratchpad() -> SOp:
    """The next token when writing the parities of ever longer beginnings of the prompt, None at its end.

    Each step reads the last parity written and one more bit.
    """
    bit = _of_prompt(WRITTEN, _bits())
    return SequenceMap(lambda x, y: x ^ y, _bits(), bit.named("next_bit")).named("parity_scratchpad")


def make_addition_reversed() -> SOp:
    """The next bit of a sum given column by column (0, 1 or 2 in each), the lowest first, zeros at its end.

    The carry shows in the last bit written: a column of one that has a zero below it has received and made a carry.
    """
    column = _of_prompt(WRITTEN, _bits(), default=0).named("column")
    before = _of_prompt(WRITTEN - 1, _bits(), default=0).named("column_before")
    made_carry = SequenceMap(lambda c, x: c == 2 or (c == 1 and x % 2 == 0), before, _bits()).named("made_carry")
    bit = SequenceMap(lambda c, carry: (c + carry) % 2, column, Map(int, made_carry))
    return only_where(PROMPT_OVER, bit).named("addition_reversed")


def make_addition_forward() -> SOp:
    """The next bit of a sum given column by column (0, 1 or 2 in each), the highest first, zeros at its end.

    The carry must be known before the lower bits are: it is decided by the first lower column that is not one.
    """
    column = _of_prompt(WRITTEN - 1, _bits(), default=0).named("column")
    lower = Select(indices, WRITTEN, Comparison.GEQ) & holding(IN_PROMPT & (tokens != 1))
    decides = Aggregate(lower, _bits(), default=0, reduction="first").named("decides")
    bit = SequenceMap(lambda c, d: (c + d // 2) % 2, column, decides)
    return only_where(PROMPT_OVER, bit).named("addition_forward")


def examples() -> tuple[Example, ...]:
    """The programs above, all for causal models."""

    def on(vocab, make, answer, *arguments):
        specification = at_each_prefix(answer)
        return example(make, *arguments, specification=specification, vocab=vocab, causal=True, origin="rasp-l")

    columns, bits = (0, 1, 2, EQUALS), (0, 1, EQUALS)
    return (
        on((*NUMBERS, START), make_count_up, _count_up),
        on((*LETTERS, EQUALS), make_copy_unique, _copy_unique),
        on(("a", "b", EQUALS), make_copy_by_position, _after_equals(lambda prompt, done: _item(prompt, len(done)))),
        on(("A", "B", "C", "0", "1"), make_copy_with_hints, _copy_with_hints, ("A", "B", "C")),
        on((*NUMBERS, EQUALS), make_sort_next, _after_equals(_sort_next)),
        on(bits, make_parity_scratchpad, _after_equals(_parity)),
        on(columns, make_addition_reversed, _after_equals(_addition_reversed)),
        on(columns, make_addition_forward, _after_equals(_addition_forward)),
    )


def _after_equals(answer: Callable[[list[Value], list[Value]], Value]) -> Callable[[list[Value]], Value]:
    """None while there is no "=", then the answer to the tokens before the first and those after it."""

    def answered(xs: list[Value]) -> Value:
        if EQUALS not in xs:
            return None
        end = xs.index(EQUALS)
        return answer(xs[:end], xs[end + 1 :])

    return answered


def _item(xs: list[Value], i: int) -> Value:
    return xs[i] if i < len(xs) else None


def _count_up(xs: list[Value]) -> Value:
    if START not in xs:
        return None
    match xs[len(xs) - xs[::-1].index(START) :]:
        case [low, high]:
            return low
        case [low, high, *_, last]:
            return END if last == high else (last + 1) % 4
    return None


def _copy_unique(xs: list[Value]) -> Value:
    line = [EQUALS, *xs]
    return _item(line, line.index(xs[-1]) + 1) if EQUALS in xs else None


def _copy_with_hints(xs: list[Value]) -> Value:
    if xs[-1] in "ABC":
        return _item(xs, xs.index(xs[-1]) + 1)
    return _item(xs, xs.index(xs[-2]) + 2) if len(xs) > 1 else None


def _sort_next(prompt: list[Value], done: list[Value]) -> Value:
    last = done[-1] if done and done[-1] != EQUALS else -1
    return min((x for x in prompt if x > last), default=None)


def _parity(prompt: list[Value], done: list[Value]) -> Value:
    if len(done) >= len(prompt):
        return None
    last = 1 if done[-1:] == [1] else 0
    return (last + prompt[len(done)]) % 2


def _addition_reversed(prompt: list[Value], done: list[Value]) -> Value:
    padded = prompt + [0] * (len(done) + 1)
    if not done:
        return padded[0] % 2
    column, bit = padded[len(done) - 1], 0 if done[-1] == EQUALS else done[-1]
    received = (bit - column) % 2
    return (padded[len(done)] + (column + received) // 2) % 2


def _addition_forward(prompt: list[Value], done: list[Value]) -> Value:
    total = sum(column << place for place, column in enumerate(reversed(prompt)))
    return 0 if len(done) > len(prompt) else total >> len(prompt) - len(done) & 1

"""Text of words separated by blanks: where words begin, how long they are, their letters turned about."""

from microtome.lab.rasp.language import (
    Aggregate,
    Comparison,
    Select,
    SelectorWidth,
    SequenceMap,
    SOp,
    indices,
    tokens,
)
from microtome.lab.rasp.library.example import Example, at_each_prefix, everywhere, example
from microtome.lab.rasp.library.parts import (
    EVERYWHERE,
    SO_FAR,
    at,
    count_of,
    count_so_far,
    holding,
    shift_by,
)
from microtome.lab.rasp.values import Value

BLANK = " "


def make_word_start() -> SOp:
    """Whether a word begins at each position."""
    return ((shift_by(1, tokens, default=BLANK) == BLANK) & (tokens != BLANK)).named("word_start")


def make_word_count() -> SOp:
    """How many words the text has."""
    return count_of(make_word_start()).named("word_count")


def make_word_number() -> SOp:
    """How many words have begun up to each position."""
    return count_so_far(make_word_start()).named("word_number")


def make_last_blank() -> SOp:
    """The position of the last blank up to each position, −1 before the first."""
    return Aggregate(holding(tokens == BLANK) & SO_FAR, indices, default=-1, reduction="last").named("last_blank")


def make_place_in_word() -> SOp:
    """Which letter of its word each position is, from 1; 0 at a blank."""
    return (indices - make_last_blank()).named("place_in_word")


def make_word_length() -> SOp:
    """How long the word at each position is; 0 at a blank."""
    last_blank = make_last_blank()
    same_word = Select(last_blank, last_blank, Comparison.EQ) & holding(tokens != BLANK)
    in_word = Select(tokens, tokens, lambda key, query: query != BLANK)
    return SelectorWidth(same_word & in_word).named("word_length")


def make_longest_word() -> SOp:
    """The length of the longest word."""
    return Aggregate(EVERYWHERE, make_place_in_word(), reduction="max").named("longest_word")


def make_capitalise() -> SOp:
    """The text with a capital at the beginning of each word."""
    return SequenceMap(lambda x, starts: x.upper() if starts else x, tokens, make_word_start()).named("capitalise")


def make_reverse_words() -> SOp:
    """The text with each word spelled backwards in its place."""
    last_blank = make_last_blank()
    letters_behind = make_word_length() - (indices - last_blank)
    mirrored = (last_blank + 1 + letters_behind).named("mirrored")
    spelled = at(mirrored, tokens, default=BLANK).named("spelled")
    return SequenceMap(lambda x, y: x if x == BLANK else y, tokens, spelled).named("reverse_words")


def examples() -> tuple[Example, ...]:
    """The programs above, on texts of two letters."""

    def on_text(make, specification, **more):
        return example(make, specification=specification, vocab=("a", "b", BLANK), **more)

    def asked(question):
        return everywhere(lambda xs: question("".join(xs)))

    def so_far(question):
        return at_each_prefix(lambda xs: question("".join(xs)))

    return (
        on_text(make_word_start, so_far(lambda text: text[-1] != BLANK and (BLANK + text)[-2] == BLANK), causal=True),
        on_text(make_word_count, asked(lambda text: len(text.split()))),
        on_text(make_word_number, so_far(lambda text: len(text.split()))),
        on_text(make_last_blank, so_far(lambda text: text.rfind(BLANK)), causal=True),
        on_text(make_place_in_word, so_far(lambda text: len(text.split(BLANK)[-1]))),
        on_text(make_word_length, _word_length),
        on_text(make_longest_word, asked(lambda text: max(map(len, text.split(BLANK))))),
        on_text(make_capitalise, lambda xs: list(BLANK.join(w.capitalize() for w in "".join(xs).split(BLANK)))),
        on_text(make_reverse_words, lambda xs: list(BLANK.join(w[::-1] for w in "".join(xs).split(BLANK)))),
    )


def _word_length(xs: list[Value]) -> list[Value]:
    words = "".join(xs).split(BLANK)
    return [length for word in words for length in ([len(word)] * len(word) + [0])][: len(xs)]

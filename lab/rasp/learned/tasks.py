"""The RASP tasks that Transformer Programs are trained on (Friedman et al. 2023, section 4; Weiss et al. 2021).

A task says which sentences there are and which tag each word of a sentence bears. Sentences begin with `BOS`; where
nothing is asked the tag is `PAD`. Sizes are counted as the paper counts them: a vocabulary of 8 includes `PAD`, `BOS`
and, in `reverse` and `sort`, `EOS`; a length of 8 includes `BOS` and `EOS`.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch

from microtome.lab.rasp.learned.options import BOS, EOS, PAD, UNK
from microtome.lab.spelling import near

Sentence = list[str]
BRACKETS = (("(", ")"), ("{", "}"))


@dataclass(frozen=True)
class TaggingTask:
    """Sentences and the tags of their words.

    Attributes:
        name: one of `TASKS`.
        words: the vocabulary without `PAD`.
        longest: words of the longest sentence, markers included.
        draw: `draw(count, generator)` draws sentences.
        tag: the tags of a sentence, one a word.
        causal: whether a tag depends on the words so far only.
    """

    name: str
    words: tuple[str, ...]
    longest: int
    draw: Callable[[int, torch.Generator], list[Sentence]]
    tag: Callable[[Sentence], list[str]]
    causal: bool = False


def task(name: str, *, vocab: int = 8, max_length: int = 8) -> TaggingTask:
    """A task by name, at a size.

    Args:
        name: one of `TASKS`.
        vocab: words, `PAD` and markers included; Dyck languages have their own.
        max_length: longest sentence, markers included.

    Raises:
        ValueError: for an unknown name, with the nearest one, or sizes that leave no words or no sentence.
    """
    if name not in TASKS:
        raise ValueError(f"no task is called {name!r}{near(name, TASKS)}; there are {', '.join(TASKS)}.")
    return TASKS[name](name, vocab, max_length)


def _uniform(tag: Callable[[Sentence], list[str]], eos: bool) -> Callable[[str, int, int], TaggingTask]:
    """Sentences of a uniform length ≥ 1 of uniform words; `tag` is given the words between the markers."""

    def build(name: str, vocab: int, max_length: int) -> TaggingTask:
        n_letters, longest = vocab - 2 - eos, max_length - 1 - eos
        _require(name, n_letters >= 1 and longest >= 1, vocab, max_length)
        letters, end = [str(i) for i in range(n_letters)], [EOS] * eos

        def draw(count: int, generator: torch.Generator) -> list[Sentence]:
            lengths = torch.randint(1, longest + 1, (count,), generator=generator).tolist()
            rows = torch.randint(n_letters, (count, longest), generator=generator).tolist()
            return [[BOS, *(letters[i] for i in row[:n]), *end] for row, n in zip(rows, lengths, strict=True)]

        def tags(sentence: Sentence) -> list[str]:
            return [PAD, *tag(sentence[1 : len(sentence) - eos]), *[PAD] * eos]

        return TaggingTask(name, (BOS, *end, *letters), max_length, draw, tags)

    return build


def reversal(words: Sentence) -> list[str]:
    """The words from the last to the first."""
    return words[::-1]


def histogram(words: Sentence) -> list[str]:
    """How often each word occurs."""
    counts = Counter(words)
    return [str(counts[word]) for word in words]


def double_histogram(words: Sentence) -> list[str]:
    """How many different words occur as often as each word does."""
    counts = Counter(words)
    sharing = Counter(counts.values())
    return [str(sharing[counts[word]]) for word in words]


def most_frequent(words: Sentence) -> list[str]:
    """The different words, the most frequent first and of equally frequent ones the earlier first; then `BOS`."""
    order = [word for word, _ in Counter(words).most_common()]
    return order + [BOS] * (len(words) - len(order))


def _dyck(kinds: int) -> Callable[[str, int, int], TaggingTask]:
    """Half of the sentences are uniform brackets, half balanced ones followed by uniform ones; all are full length."""
    pairs = BRACKETS[:kinds]
    brackets = [bracket for pair in pairs for bracket in pair]

    def build(name: str, vocab: int, max_length: int) -> TaggingTask:
        _require(name, max_length >= 2, vocab, max_length)
        length, most = max_length - 1, max_length // 2

        def draw(count: int, generator: torch.Generator) -> list[Sentence]:
            noise = torch.randint(len(brackets), (count, length), generator=generator).tolist()
            n_pairs = (
                torch.randint(2, (count,), generator=generator)
                * torch.randint(1, most + 1, (count,), generator=generator)
            ).tolist()
            kind = torch.randint(kinds, (count, most), generator=generator).tolist()
            around = torch.randint(2, (count, most), generator=generator).tolist()
            return [
                [BOS, *_balanced([pairs[k] for k in ks[:n]], a), *row][: length + 1]
                for row, n, ks, a in zip(noise_words(noise), n_pairs, kind, around, strict=True)
            ]

        def noise_words(rows: list[list[int]]) -> list[Sentence]:
            return [[brackets[i] for i in row] for row in rows]

        return TaggingTask(name, (BOS, *brackets), max_length, draw, lambda s: [PAD, *prefixes(s[1:])], causal=True)

    return build


def _balanced(pairs: list[tuple[str, str]], around: list[int]) -> Sentence:
    """Pairs put one after the other behind what there is, or around it."""
    words: Sentence = []
    for (left, right), outside in zip(pairs, around, strict=False):
        words = [left, *words, right] if outside else [*words, left, right]
    return words


def prefixes(brackets: Sentence) -> list[str]:
    """Of each prefix: T if it is balanced, P if it can still become so, else F."""
    closing = {right: left for left, right in BRACKETS}
    tags, stack = [], []
    for bracket in brackets:
        if bracket not in closing:
            stack.append(bracket)
        elif not stack or stack.pop() != closing[bracket]:
            break
        tags.append("P" if stack else "T")
    return tags + ["F"] * (len(brackets) - len(tags))


def _induction(name: str, vocab: int, max_length: int) -> TaggingTask:
    """Letters, each followed by its digit of this sentence; before them a stray digit or after them a letter."""
    size, n_pairs = (vocab - 2) // 2, (max_length - 1) // 2
    _require(name, 1 <= size <= 10 and n_pairs >= 1 and max_length % 2 == 0, vocab, max_length)
    letters, digits = [chr(ord("a") + i) for i in range(size)], [str(i) for i in range(size)]

    def draw(count: int, generator: torch.Generator) -> list[Sentence]:
        rows = torch.randint(size, (count, size + n_pairs + 1), generator=generator).tolist()
        before = torch.randint(2, (count,), generator=generator).tolist()
        sentences = []
        for row, stray in zip(rows, before, strict=True):
            code, spoken, extra = row[:size], row[size:-1], row[-1]
            pairs = [word for i in spoken for word in (letters[i], digits[code[i]])]
            sentences.append([BOS, digits[extra], *pairs] if stray else [BOS, *pairs, letters[extra]])
        return sentences

    return TaggingTask(name, (BOS, *letters, *digits), max_length, draw, continuations, causal=True)


def continuations(sentence: Sentence) -> list[str]:
    """At each letter, the word that followed it when it was first said, `UNK` if it is new; `PAD` elsewhere."""
    followed: dict[str, str] = {}
    tags = []
    for word, after in zip(sentence, [*sentence[1:], None], strict=True):
        asked = word.isalpha()
        tags.append(followed.get(word, UNK) if asked else PAD)
        if asked and after is not None:
            followed.setdefault(word, after)
    return tags


def _require(name: str, fits: bool, vocab: int, max_length: int) -> None:
    if not fits:
        even = ", an even length" if name == "induction" else ""
        raise ValueError(
            f"{name} needs a word and room for it beside padding and markers{even}; "
            f"vocab={vocab} and max_length={max_length} do not leave that."
        )


TASKS: dict[str, Callable[[str, int, int], TaggingTask]] = {
    "reverse": _uniform(reversal, eos=True),
    "sort": _uniform(sorted, eos=True),
    "hist": _uniform(histogram, eos=False),
    "double_hist": _uniform(double_histogram, eos=False),
    "most_freq": _uniform(most_frequent, eos=False),
    "dyck1": _dyck(1),
    "dyck2": _dyck(2),
    "induction": _induction,
}
"""Every task by name, made from (name, vocab, max_length)."""

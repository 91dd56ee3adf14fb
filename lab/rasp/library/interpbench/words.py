"""Words as tokens: their letters, lengths and mirror images.

Published word lists are random letters, in which some programs meet no interesting word; ours have palindromes,
anagrams, the excluded and the replaced word. 34 has no ratio for a word without consonants: the published program
answers infinity, which no finite weight holds (and its list has no such word), ours None. 11 is published as a mean
over the words of equal length, which is that length.
"""

from collections import Counter

from microtome.lab.rasp.library.example import Example
from microtome.lab.rasp.library.interpbench.numbered import WORDS, token_by_token

VOWELS = frozenset("aeiou")
SPAM = ("free", "offer", "click", "now")
FEELINGS = {"😊": "positive", "😢": "negative", "📘": "neutral"}


def palindrome(word: str) -> str | None:
    """The word where it reads the same from both ends, else None."""
    return word if word == word[::-1] else None


def palindrome_by_letters(word: str) -> str | None:
    """The same, letter against letter."""
    return word if all(a == b for a, b in zip(word, reversed(word), strict=True)) else None


def mirrored(word: str) -> str:
    """The word from its end to its beginning."""
    return "".join(reversed(word))


def vowels_per_consonant(word: str) -> float | None:
    """The number of vowels over that of other letters; None where there are no others."""
    vowels = sum(letter in VOWELS for letter in word.lower())
    return vowels / (len(word) - vowels) if vowels < len(word) else None


def vowels_per_consonant_in_two_lists(word: str) -> float | None:
    """The same, the letters sorted into two lists first."""
    vowels = [letter for letter in word if letter in "aeiouAEIOU"]
    others = [letter for letter in word if letter not in vowels]
    return len(vowels) / len(others) if others else None


def alternating_capitals(word: str) -> str:
    """The word with capitals at its first, third, fifth, … letter and small letters between."""
    return "".join(letter.lower() if i % 2 else letter.upper() for i, letter in enumerate(word))


def alternating_capitals_by_slices(word: str) -> str:
    """The same, from two copies of the word."""
    letters = list(word.lower())
    letters[::2] = word.upper()[::2]
    return "".join(letters)


ROWS = (
    (10, "symmetric_word", "Words that are their own mirror image, else None.", palindrome_by_letters, palindrome),
    (11, "word_length", "The number of letters of each word.", len, lambda x: sum(1 for _ in x)),
    (23, "palindrome_word", "Palindromes, else None.", palindrome, palindrome_by_letters),
    (28, "mirror_word", "Each word mirrored.", mirrored, lambda x: x[::-1]),
    (29, "abbreviate", "The first three letters of each word.", lambda x: x[:3], lambda x: "".join(list(x)[0:3])),
    (
        31,
        "anagram",
        "Whether a word is an anagram of 'listen'.",
        lambda x: Counter(x) == Counter("listen"),
        lambda x: sorted(x) == sorted("listen"),
    ),
    (
        33,
        "even_length",
        "Whether a word has an even number of letters.",
        lambda x: len(x) % 2 == 0,
        lambda x: len(x) in (2, 4, 6),
    ),
    (
        34,
        "vowel_ratio",
        "The vowels of a word over its consonants, None without any.",
        vowels_per_consonant,
        vowels_per_consonant_in_two_lists,
    ),
    (
        35,
        "alternate_capitals",
        "Each word in capitals and small letters by turns.",
        alternating_capitals,
        alternating_capitals_by_slices,
    ),
)
"""Number, title, summary, function, the specification's function; all on WORDS."""


def examples() -> tuple[Example, ...]:
    """The programs on words."""
    return (
        *(token_by_token(*row, WORDS) for row in ROWS),
        token_by_token(
            20,
            "spam",
            "'spam' for the words of spam, else 'not spam'.",
            lambda x: "spam" if x in SPAM else "not spam",
            lambda x: "not " * (SPAM.count(x) == 0) + "spam",
            (*WORDS, "spam", *SPAM),
        ),
        token_by_token(
            36, "sentiment", "The feeling that an emoji shows.", FEELINGS.__getitem__, _feeling, tuple(FEELINGS)
        ),
        token_by_token(
            37,
            "mirror_with_exclusion",
            "Each word mirrored, save 'nochange'.",
            lambda x: x if x == "nochange" else mirrored(x),
            lambda x: {"nochange": x}.get(x, x[::-1]),
            (*WORDS, "nochange"),
        ),
        token_by_token(
            90,
            "replace_word",
            "'-' in the place of 'findme'.",
            lambda x: "-" if x == "findme" else x,
            {"findme": "-", "-": "-", **{word: word for word in WORDS}}.__getitem__,
            (*WORDS, "findme", "-"),
        ),
    )


def _feeling(emoji: str) -> str:
    match emoji:
        case "😊":
            return "positive"
        case "😢":
            return "negative"
    return "neutral"

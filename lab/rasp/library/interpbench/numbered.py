"""How the numbered programs are listed, and the tokens that they are for."""

import string
from collections.abc import Callable

from microtome.lab.rasp.language import Map, SOp, tokens
from microtome.lab.rasp.library.example import Example, Specification, example
from microtome.lab.rasp.values import Value

ALPHABET = tuple(string.ascii_lowercase)
ABC = ALPHABET[:3]
DIGITS = tuple(range(10))
NUMBERS = tuple(range(11))
SIGNED = tuple(range(-10, 10))
UP_TO_29 = tuple(range(30))
WORDS = ("a", "io", "Sky", "noon", "level", "silent", "listen", "robots")
"""Short and long words, palindromes and anagrams, all vowels and none, of even and of odd lengths, with ties."""


def numbered(
    number: int,
    make: Callable[..., SOp],
    *arguments: object,
    specification: Specification,
    vocab: tuple[Value, ...] = NUMBERS,
    causal: bool = False,
    title: str | None = None,
) -> Example:
    """The example `interpbench_NNN_title` with the program `make(*arguments)`; the title is make's unless given."""
    return example(
        make,
        *arguments,
        specification=specification,
        vocab=vocab,
        causal=causal,
        origin="interpbench",
        name=name_of(number, title or make.__name__.removeprefix("make_")),
    )


def token_by_token(
    number: int,
    title: str,
    summary: str,
    f: Callable[[Value], Value],
    answer: Callable[[Value], Value],
    vocab: tuple[Value, ...] = NUMBERS,
) -> Example:
    """The example whose program is f at each token, where `answer` says in other words what f should be."""
    program = Map(f, tokens).named(title)
    return Example(name_of(number, title), program, at_each(answer), vocab, True, "interpbench", summary)


def at_each(answer: Callable[[Value], Value]) -> Specification:
    """The specification of a program whose value at each position is a function of the token there."""
    return lambda xs: [answer(x) for x in xs]


def name_of(number: int, title: str) -> str:
    """The name under which a numbered program is listed."""
    return f"interpbench_{number:03}_{title}"

"""What an example of the library is: a program, what it should compute, and the inputs that it is for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from microtome.lab.rasp.language import SOp
from microtome.lab.rasp.values import Value

Origin = Literal["tracr", "rasp paper", "rasp-l", "interpbench", "microtome"]
Specification = Callable[[list[Value]], list[Value]]


LETTERS = ("a", "b", "c")
NUMBERS = (0, 1, 2, 3)
BITS = (0, 1)


@dataclass(frozen=True)
class Example:
    """A program beside a specification in plain Python, which is written without looking at how the program works.

    Attributes:
        name: unique within the library.
        program: the s-op.
        specification: from the tokens of an input to the value at each position. Total: any input over `vocab`.
        vocab: the tokens.
        causal: whether the program is for models in which a position sees only itself and those before it.
        origin: whose program it is: tracr's library or tests, Weiss, Goldberg and Yahav 2021 ("Thinking Like
            Transformers"), RASP-L (Zhou et al. 2023, "What Algorithms Can Transformers Learn?"), InterpBench (Gupta et
            al. 2024), or our own.
        summary: one sentence that says what is computed.
    """

    name: str
    program: SOp
    specification: Specification
    vocab: tuple[Value, ...]
    causal: bool = False
    origin: Origin = "microtome"
    summary: str = ""


def example(
    make: Callable[..., SOp],
    *arguments: object,
    specification: Specification,
    vocab: tuple[Value, ...],
    causal: bool = False,
    origin: Origin = "microtome",
    name: str | None = None,
) -> Example:
    """The example that `make(*arguments)` is the program of.

    Its summary is the first sentence of make's docstring and the arguments; its name, where none is given, that of
    `make` without "make_".
    """
    sentence = " ".join((make.__doc__ or "").split()).partition(". ")[0].rstrip(".")
    shown = ", ".join(x.label if isinstance(x, SOp) else repr(x) for x in arguments)
    summary = f"{sentence} ({shown})." if arguments else f"{sentence}."
    return Example(
        name or make.__name__.removeprefix("make_"),
        make(*arguments),
        specification,
        vocab,
        causal,
        origin,
        summary,
    )


def everywhere(answer: Callable[[list[Value]], Value]) -> Specification:
    """The specification of a program with the same answer at every position."""
    return lambda xs: [answer(xs)] * len(xs)


def at_each_prefix(answer: Callable[[list[Value]], Value]) -> Specification:
    """The specification of a program whose value at each position is a function of the tokens up to there."""
    return lambda xs: [answer(xs[: i + 1]) for i in range(len(xs))]

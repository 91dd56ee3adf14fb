"""What the RASP room raises: one sentence that names the expression, what is wrong with it and what is allowed."""

from typing import ClassVar


class RaspError(ValueError):
    """Base of every refusal. `expression` is the s-op or selector at fault, or None when there is none."""

    BLAMES_PROGRAM: ClassVar[bool] = False
    """Whether the sentence begins with the line of the program that made the expression."""

    def __init__(self, sentence: str, expression: object = None):
        self.expression = expression
        # What was given in place of an expression has no line.
        line = getattr(expression, "where", None) if self.BLAMES_PROGRAM else None
        place = "" if line is None else f"{line}: "
        super().__init__(place + sentence if expression is None else f"{place}{sentence} (in {expression!r})")


class ExpressionError(RaspError):
    """An expression was built from parts that do not fit."""


class UndefinedError(RaspError):
    """A function or predicate of the program fails on a value that can reach it."""

    BLAMES_PROGRAM = True


class InputError(RaspError):
    """A sequence of tokens that the program or the compiled model cannot take."""


class CompileError(RaspError):
    """A program, or one of its operations, that cannot be put into weights exactly."""

    BLAMES_PROGRAM = True

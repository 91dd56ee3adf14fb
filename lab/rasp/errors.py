"""What the RASP room raises: one sentence that names the expression, what is wrong with it and what is allowed."""


class RaspError(ValueError):
    """Base of every refusal. `expression` is the s-op or selector at fault, or None when there is none."""

    def __init__(self, sentence: str, expression: object = None):
        self.expression = expression
        super().__init__(sentence if expression is None else f"{sentence} (in {expression!r})")


class ExpressionError(RaspError):
    """An expression was built from parts that do not fit."""


class UndefinedError(RaspError):
    """A function or predicate of the program fails on a value that can reach it."""


class InputError(RaspError):
    """A sequence of tokens that the program or the compiled model cannot take."""


class CompileError(RaspError):
    """A program, or one of its operations, that cannot be put into weights exactly."""

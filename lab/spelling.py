"""A hint for whoever mistyped a name."""

import difflib
from collections.abc import Iterable


def near(word: str, allowed: Iterable[str]) -> str:
    """A clause that names the allowed words nearest to a mistyped one, or nothing."""
    matches = difflib.get_close_matches(word, list(allowed), n=3)
    return f" (did you mean {' or '.join(matches)}?)" if matches else ""

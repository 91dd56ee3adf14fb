"""One sentence for a name that does not exist, with the nearest names that do."""

import difflib
from collections.abc import Iterable


def unknown(what: str, name: str, allowed: Iterable[str]) -> str:
    """The message for an unknown `name` of the sort `what` ("claim", "kind of evidence"), given the `allowed` names."""
    names = sorted(allowed)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"unknown {what} {name!r}: {hint}the allowed names are {', '.join(names) or '(none yet)'}"

"""Example programs, each beside a specification of what it computes in plain Python.

`examples()` lists them with their vocabularies: tracr's library and tests, the programs of the RASP paper and of
RASP-L, InterpBench's cases, and our own. A program that tracr has bears tracr's name; `make_…` builds it for other
arguments.
"""

from microtome.lab.rasp.library import (
    arithmetic,
    automata,
    basics,
    brackets,
    counting,
    induction,
    interpbench,
    patterns,
    rasp_l,
    rasp_l_tasks,
    rasp_paper,
    sets,
    sorting,
    tracr_cases,
    two_strings,
    words,
)
from microtome.lab.rasp.library.brackets import make_balanced, make_pair_balance, make_shuffle_dyck
from microtome.lab.rasp.library.counting import (
    make_count,
    make_count_less_freq,
    make_frac_prevs,
    make_hist,
    make_parity,
)
from microtome.lab.rasp.library.example import Example, example
from microtome.lab.rasp.library.induction import make_induct
from microtome.lab.rasp.library.parts import EVERYWHERE, SAME_TOKEN, SO_FAR, make_length, make_reverse, shift_by
from microtome.lab.rasp.library.patterns import detect_pattern, make_double_letters, make_palindrome
from microtome.lab.rasp.library.sets import make_first_occurrence
from microtome.lab.rasp.library.sorting import make_sort, make_sort_freq, make_sort_unique
from microtome.lab.rasp.library.tracr_cases import make_nary_sequencemap

ROOMS = (
    basics,
    counting,
    sorting,
    brackets,
    patterns,
    words,
    two_strings,
    induction,
    sets,
    arithmetic,
    automata,
    tracr_cases,
    rasp_paper,
    rasp_l,
    rasp_l_tasks,
    interpbench,
)


def examples() -> tuple[Example, ...]:
    """Every program of the library, each name once."""
    return tuple(found for room in ROOMS for found in room.examples())


__all__ = [
    "Example",
    "example",
    "examples",
    "EVERYWHERE",
    "SO_FAR",
    "SAME_TOKEN",
    "make_length",
    "make_reverse",
    "shift_by",
    "make_hist",
    "make_count",
    "make_count_less_freq",
    "make_parity",
    "make_frac_prevs",
    "make_sort",
    "make_sort_unique",
    "make_sort_freq",
    "make_pair_balance",
    "make_balanced",
    "make_shuffle_dyck",
    "make_double_letters",
    "detect_pattern",
    "make_palindrome",
    "make_induct",
    "make_first_occurrence",
    "make_nary_sequencemap",
]

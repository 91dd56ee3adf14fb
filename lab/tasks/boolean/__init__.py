"""Boolean functions to be learnt in context.

The laws are those of "Understanding In-Context Learning in Transformers and LLMs by Learning to Learn Discrete
Functions" (Bhattamishra, Patel, Blunsom and Kanade 2024, icl_boolean).
"""

from microtome.lab.tasks.boolean.conjunctions import Conjunction, Disjunction
from microtome.lab.tasks.boolean.nearest import NearestNeighbour
from microtome.lab.tasks.boolean.normal_forms import CNF, DNF
from microtome.lab.tasks.boolean.parities import Parity
from microtome.lab.tasks.boolean.pool import PromptPool
from microtome.lab.tasks.boolean.protocol import BooleanTask
from microtome.lab.tasks.boolean.thresholds import IntegerHalfspace, SparseMajority, SparseThreshold

__all__ = [
    "BooleanTask",
    "Conjunction",
    "Disjunction",
    "DNF",
    "CNF",
    "SparseThreshold",
    "IntegerHalfspace",
    "SparseMajority",
    "Parity",
    "NearestNeighbour",
    "PromptPool",
]

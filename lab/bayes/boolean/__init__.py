"""Exact answers for Boolean functions learnt in context, and their baselines; labels are ±1.

`Enumeration` of a `FiniteClass`, `VersionSpace` of conjunctions too many to enumerate, `ParitySpan` over GF(2),
`NearestRoot` for labels of nearest neighbours, `Dual` for disjunctions and conjunctive normal forms.
"""

from microtome.lab.bayes.boolean.baselines import AveragingSign, Elimination, Null
from microtome.lab.bayes.boolean.classes import conjunctions, normal_forms, parities, thresholds
from microtome.lab.bayes.boolean.dual import Dual
from microtome.lab.bayes.boolean.enumeration import Enumeration
from microtome.lab.bayes.boolean.finite import FiniteClass
from microtome.lab.bayes.boolean.literals import Literals
from microtome.lab.bayes.boolean.memory import Memory
from microtome.lab.bayes.boolean.nearest import CosineNeighbour, NearestRoot
from microtome.lab.bayes.boolean.network import PromptNetwork
from microtome.lab.bayes.boolean.span import ParitySpan
from microtome.lab.bayes.boolean.version_space import VersionSpace

__all__ = [
    "Enumeration",
    "FiniteClass",
    "Literals",
    "conjunctions",
    "normal_forms",
    "parities",
    "thresholds",
    "VersionSpace",
    "ParitySpan",
    "NearestRoot",
    "Memory",
    "Dual",
    "Null",
    "AveragingSign",
    "CosineNeighbour",
    "Elimination",
    "PromptNetwork",
]

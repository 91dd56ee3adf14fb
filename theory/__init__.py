"""Floor 4: statements and evidence: proofs, bounds, constructions, and one claim per paper.

A `Statement` meets `Evidence` of a named kind. `microtome.theory.registry` runs the checks of all statements,
`microtome.theory.claims` the one claim of a paper, `microtome.theory.ledger` keeps verdicts. Importing this package
imports neither torch nor SymPy.
"""

from microtome.theory.claim import Claim
from microtome.theory.evidence import BUDGETS, KINDS, VERDICTS, Check, Control, Evidence
from microtome.theory.statement import Statement

__all__ = ["Statement", "Evidence", "Check", "Control", "Claim", "KINDS", "VERDICTS", "BUDGETS"]

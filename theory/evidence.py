"""Evidence for a statement: what was measured, the thresholds, and the control that must fail.

A verdict is computed from what was measured, never given. A check that a control passes as well says nothing about
the statement (*vacuous*), and a budget too small to decide says nothing either (*inconclusive*).
"""

import json
import math
import operator
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from microtome.theory._names import unknown
from microtome.theory.statement import Statement

KINDS = ("symbolic", "certified", "exhaustive", "numeric", "empirical")
VERDICTS = ("holds", "fails", "vacuous", "inconclusive")
BUDGETS = ("quick", "full")

_WORST_FIRST = ("fails", "vacuous", "inconclusive")
_COMPARISONS = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
}


def require_kind(kind: str) -> None:
    """Raises ValueError unless `kind` is one of `KINDS`."""
    if kind not in KINDS:
        raise ValueError(unknown("kind of evidence", kind, KINDS))


def require_budget(budget: str) -> None:
    """Raises ValueError unless `budget` is "quick" or "full"."""
    if budget not in BUDGETS:
        raise ValueError(unknown("budget", budget, BUDGETS))


@dataclass(frozen=True)
class Check:
    """One measured number against one threshold: `measured op bound`, with op one of <= >= < > ==.

    A comparison with NaN never passes. Raises ValueError for another op.
    """

    name: str
    measured: float | int
    op: str
    bound: float | int

    def __post_init__(self):
        if self.op not in _COMPARISONS:
            raise ValueError(f"check {self.name!r} has op {self.op!r}; allowed are {' '.join(_COMPARISONS)}")
        object.__setattr__(self, "measured", float(self.measured))
        object.__setattr__(self, "bound", float(self.bound))

    @property
    def passes(self) -> bool:
        return _COMPARISONS[self.op](self.measured, self.bound)

    @property
    def threshold(self) -> str:
        """The condition as text, for instance "<= 1e-05"."""
        return f"{self.op} {self.bound:.6g}"


@dataclass(frozen=True)
class Control:
    """The same checks on something for which the statement must not hold; it passes only if every check passes.

    Raises ValueError without checks: such a control could never fail.
    """

    description: str
    checks: tuple[Check, ...]

    def __post_init__(self):
        if not self.checks:
            raise ValueError(f"control {self.description!r} has no checks; it needs at least one that can fail")

    @property
    def passes(self) -> bool:
        return all(check.passes for check in self.checks)


@dataclass(frozen=True)
class Evidence:
    """What was found out about a statement.

    Attributes:
        kind: symbolic (SymPy identity), certified (ball arithmetic), exhaustive (all inputs of a finite domain),
            numeric (float64 with a tolerance) or empirical (a trained model against a control).
        statement: what the evidence is about.
        checks: the measured numbers with their thresholds; names are unique.
        control: the control that must fail.
        seed: seed of the random draws, None where there are none.
        budget: "quick" or "full".
        seconds: wall-clock time, filled in by whoever runs the gathering.
        notes: what a reader must know beside the numbers.
        figure: draws the evidence on call, as a `matplotlib.figure.Figure`; not stored in JSON.
        parts: evidence this one is made of; the verdict is the worst of theirs and of the own checks.
        decided: False where the budget was too small to decide.

    Raises ValueError for an unknown kind or budget, for repeated names, and for decided evidence that neither checks
    anything nor has parts.
    """

    kind: str
    statement: Statement
    checks: tuple[Check, ...] = ()
    control: Control | None = None
    seed: int | None = None
    budget: str = "quick"
    seconds: float = 0.0
    notes: str = ""
    figure: Callable[[], object] | None = field(default=None, compare=False, repr=False)
    parts: tuple["Evidence", ...] = ()
    decided: bool = True

    def __post_init__(self):
        require_kind(self.kind)
        require_budget(self.budget)
        if self.decided and not (self.checks or self.parts):
            raise ValueError(f"evidence for {self.statement.name!r} is called decided but has no checks and no parts")
        _require_distinct(self.statement.name, "check", [check.name for check in self.checks])
        _require_distinct(self.statement.name, "part", [part.statement.name for part in self.parts])

    @property
    def verdict(self) -> str:
        """ "holds", "fails", "vacuous" or "inconclusive"; the worst of the parts' and the own checks' verdicts."""
        verdicts = [part.verdict for part in self.parts]
        if self.checks or not self.decided:
            verdicts.append(self._own_verdict())
        return next((bad for bad in _WORST_FIRST if bad in verdicts), "holds")

    @property
    def measured(self) -> dict[str, float]:
        """Every measured number by the name of its check, with "part: " before the names of a part's checks."""
        return {name: check.measured for name, check in self._named_checks()}

    @property
    def threshold(self) -> dict[str, str]:
        """The condition on every measured number, under the same names."""
        return {name: check.threshold for name, check in self._named_checks()}

    def to_json(self) -> str:
        """The evidence without its figure, as strict JSON (non-finite numbers become strings)."""
        return json.dumps(_to_plain(self), indent=1, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Evidence":
        """What `to_json` wrote. Raises ValueError for anything else."""
        try:
            return _from_plain(json.loads(text))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"not a stored evidence ({error}); allowed is what Evidence.to_json wrote") from error

    def _own_verdict(self) -> str:
        if not self.decided:
            return "inconclusive"
        if not all(check.passes for check in self.checks):
            return "fails"
        if self.control is not None and self.control.passes:
            return "vacuous"
        return "holds"

    def _named_checks(self) -> list[tuple[str, Check]]:
        own = [(check.name, check) for check in self.checks]
        return own + [
            (f"{part.statement.name}: {name}", check) for part in self.parts for name, check in part._named_checks()
        ]


def _require_distinct(statement: str, what: str, names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"evidence for {statement!r} names the {what} {repeated[0]!r} twice; names must differ")


def _to_plain(evidence: Evidence) -> dict:
    plain = {
        "kind": evidence.kind,
        "statement": asdict(evidence.statement),
        "checks": [_check_to_plain(check) for check in evidence.checks],
        "seed": evidence.seed,
        "budget": evidence.budget,
        "seconds": evidence.seconds,
        "notes": evidence.notes,
        "parts": [_to_plain(part) for part in evidence.parts],
        "decided": evidence.decided,
        "verdict": evidence.verdict,
    }
    if evidence.control is not None:
        checks = [_check_to_plain(check) for check in evidence.control.checks]
        plain["control"] = {"description": evidence.control.description, "checks": checks}
    return plain


def _from_plain(plain: dict) -> Evidence:
    statement = dict(plain["statement"])
    control = plain.get("control")
    return Evidence(
        kind=plain["kind"],
        statement=Statement(**{**statement, "hypotheses": tuple(statement["hypotheses"])}),
        checks=tuple(_check_from_plain(check) for check in plain["checks"]),
        control=control
        and Control(control["description"], tuple(_check_from_plain(check) for check in control["checks"])),
        seed=plain["seed"],
        budget=plain["budget"],
        seconds=float(plain["seconds"]),
        notes=plain["notes"],
        parts=tuple(_from_plain(part) for part in plain["parts"]),
        decided=plain["decided"],
    )


def _check_to_plain(check: Check) -> dict:
    numbers = {"measured": check.measured, "bound": check.bound}
    # JSON has no infinity and no NaN; float() reads both back from their names.
    plain = {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}
    return {"name": check.name, "op": check.op, **plain}


def _check_from_plain(plain: dict) -> Check:
    return Check(plain["name"], float(plain["measured"]), plain["op"], float(plain["bound"]))

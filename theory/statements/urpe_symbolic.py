"""URPE's negative theorem and its way out, by SymPy.

Source: Luo et al., "Your Transformer May Not be as Powerful as You Expect" (2022).

What is proved for *every* number n of tokens, width, head width, number of heads and feed-forward width (all of them
symbols, sums over them unexpanded):

* Lemma. A row of M_j e^{a_j}/Σ_k M_k e^{a_k} sums to 1, for arbitrary logits a (so any bias B, relative or absolute,
  and any dependence on the tokens) and any M with a non-zero denominator. M = 1[j ≤ i] is the causal mask, M = C is a
  factor that is renormalised, M = |C| is log|C| added to the logits.
* Step. If all rows of the stream equal one arbitrary row u, all rows that attention reads equal one arbitrary row v (u
  itself, or u after a LayerNorm), and every A_h has rows that sum to 1, then no row after Σ_h A_h v W_V W_O is added,
  after a LayerNorm, or after a residual feed-forward network with an arbitrary activation depends on its position.
  The new rows are again one common row, so induction over the depth gives the theorem; the induction itself is not a
  computation and is left to the reader.
* Error. ‖u−y₁‖² + ‖u−y₂‖² = 2‖u−(y₁+y₂)/2‖² + ‖y₁−y₂‖²/2, coordinate by coordinate, so that one common row u misses
  the farther of two wanted rows by at least ‖y₁−y₂‖/2.
* Way out. With zero logits and c_{j−i} = 1[j ≤ i], row i of A ⊙ C sums to i/n.

The lemma and what the factor C does to it are also carried out with explicit n×n matrices for n = 2..5 only.
Relative positions added to the *values* are outside the theorem, and outside these proofs.
"""

from collections.abc import Callable

import sympy as sp

from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_PAPER = "Luo et al., Your Transformer May Not be as Powerful as You Expect (2022)"
_SIZES = (2, 3, 4, 5)

CONSTANT_ROWS = Statement(
    name="constant rows stay constant",
    text="A transformer whose attention matrices have rows that sum to one maps identical rows to identical rows, "
    "whatever its depth, width, heads, relative biases or causal mask.",
    hypotheses=("positions enter through the attention matrix only", "no row of it is masked entirely"),
    source=f"{_PAPER}, theorem on relative positional encodings",
    slug="urpe",
)
FACTOR_INSIDE = Statement(
    name="a factor inside the softmax is lost",
    text="Added to the logits as log|C|, or followed by a renormalisation, the Toeplitz factor leaves rows that sum to "
    "one, so constant rows stay constant.",
    hypotheses=("no denominator is zero",),
    source=f"{_PAPER}, theorem on relative positional encodings, applied to the modified logits",
    slug="urpe",
)
HALF_THE_GAP = Statement(
    name="error of at least half the gap",
    text="If two outputs wanted for a constant input differ, y₁ ≠ y₂, a model with identical output rows misses one of "
    "them by at least ‖y₁−y₂‖/2.",
    hypotheses=("the model's output rows are identical",),
    source=f"{_PAPER}, corollary on universal approximation",
    slug="urpe",
)
POSITION_AWARE = Statement(
    name="the Toeplitz factor tells positions apart",
    text="With W_Q = 0, B = 0 and c_{j−i} = 1[j ≤ i], row i of the URPE attention matrix sums to i/n for every input, "
    "and these sums differ from each other.",
    hypotheses=("the factor multiplies the probabilities after the softmax, with no renormalisation",),
    source=f"{_PAPER}, position-aware condition",
    slug="urpe",
)

_Row = Callable[[sp.Expr, sp.Expr], sp.Expr]  # (token, coordinate) -> entry

n, d, d_head, d_mlp, heads = sp.symbols("n d d_head d_mlp heads", integer=True, positive=True)
i, j = sp.symbols("i j", integer=True, positive=True)


def softmax_row_sums_to_one() -> bool:
    """The lemma of the module: Σ_j M_ij e^{a_ij} / Σ_k M_ik e^{a_ik} = 1 for a symbolic number of keys."""
    a, M = sp.IndexedBase("a"), sp.IndexedBase("M")
    k = sp.Dummy("k", integer=True)
    denominator = sp.Sum(M[i, k] * sp.exp(a[i, k]), (k, 1, n))
    row_sum = sp.factor_terms(sp.Sum(M[i, j] * sp.exp(a[i, j]) / denominator, (j, 1, n)))
    return (row_sum * denominator).dummy_eq(denominator)


def rows_after_layer(factor: Callable[[sp.Expr, sp.Expr, sp.Expr], sp.Expr]) -> list[sp.Expr]:
    """Entry [i, g] of a layer's sublayer outputs for an input of identical rows u, the lemma applied to A.

    `factor(h, i, j)` multiplies the attention matrix entrywise after the softmax; 1 for plain attention.
    """
    A, u, v = (sp.IndexedBase(name) for name in ("A", "u", "v"))
    g = sp.Symbol("g", integer=True, positive=True)

    def attended(h: sp.Expr, token: sp.Expr, e: sp.Expr) -> sp.Expr:
        f = sp.Dummy("f", integer=True)
        value = sp.Sum(v[f] * sp.IndexedBase("W_V")[h, f, e], (f, 1, d))
        mixed = sp.factor_terms(sp.Sum(A[h, token, j] * factor(h, token, j) * value, (j, 1, n)))
        return mixed.xreplace({sp.Sum(A[h, token, j], (j, 1, n)): sp.Integer(1)})

    def after_attention(token: sp.Expr, coordinate: sp.Expr) -> sp.Expr:
        h, e = sp.Dummy("h", integer=True), sp.Dummy("e", integer=True)
        head = attended(h, token, e) * sp.IndexedBase("W_O")[h, e, coordinate]
        return u[coordinate] + sp.Sum(head, (e, 1, d_head), (h, 1, heads))

    normalised = _layer_norm(after_attention)
    return [row(i, g) for row in (after_attention, normalised, _feed_forward(after_attention, normalised))]


def _layer_norm(row: _Row) -> _Row:
    def normalised(token: sp.Expr, coordinate: sp.Expr) -> sp.Expr:
        e = sp.Dummy("e", integer=True)
        mean = sp.Sum(row(token, e), (e, 1, d)) / d
        variance = sp.Sum((row(token, e) - mean) ** 2, (e, 1, d)) / d
        scaled = (row(token, coordinate) - mean) / sp.sqrt(variance + sp.Symbol("epsilon", positive=True))
        return sp.IndexedBase("gamma")[coordinate] * scaled + sp.IndexedBase("beta")[coordinate]

    return normalised


def _feed_forward(residual: _Row, row: _Row) -> _Row:
    def after(token: sp.Expr, coordinate: sp.Expr) -> sp.Expr:
        m, e = sp.Dummy("m", integer=True), sp.Dummy("e", integer=True)
        hidden = sp.Sum(row(token, e) * sp.IndexedBase("W_in")[e, m], (e, 1, d)) + sp.IndexedBase("b_in")[m]
        out = sp.Sum(sp.Function("phi")(hidden) * sp.IndexedBase("W_out")[m, coordinate], (m, 1, d_mlp))
        return residual(token, coordinate) + out + sp.IndexedBase("b_out")[coordinate]

    return after


def explicit_pattern(size: int, added: sp.Matrix | None = None, causal: bool = False) -> sp.Matrix:
    """softmax(a_ij + b_{i−j} + added), masked if causal, with every a_ij and b_δ a symbol."""
    a = sp.Matrix(size, size, lambda row, column: sp.Symbol(f"a_{row}{column}", real=True))
    bias = sp.Matrix(size, size, lambda row, column: sp.Symbol(f"b_{row - column}", real=True))
    logits = a + bias + (sp.zeros(size, size) if added is None else added)
    weights = logits.applyfunc(sp.exp)
    return _normalise(weights.lower_triangular() if causal else weights)


def _normalise(weights: sp.Matrix) -> sp.Matrix:
    return sp.Matrix([weights[row, :] / sum(weights[row, :]) for row in range(weights.rows)])


def rows_not_summing_to_one(pattern: sp.Matrix) -> int:
    return sum(sp.cancel(sum(row) - 1) != 0 for row in pattern.tolist())


def symbolic_toeplitz(size: int) -> sp.Matrix:
    """C with C_ij = c_{j−i}, every c_δ a symbol."""
    return sp.Matrix(size, size, lambda row, column: sp.Symbol(f"c_{column - row}", real=True))


def _constant_rows(budget: str, seed: int) -> Evidence:
    C = sp.IndexedBase("C")
    plain = rows_after_layer(lambda h, token, key: sp.Integer(1))
    with_factor = rows_after_layer(lambda h, token, key: C[h, key - token])
    explicit = [explicit_pattern(size, causal=causal) for size in _SIZES for causal in (False, True)]
    depend, unlike_one = (
        "sublayer outputs of general n that depend on the position",
        "explicit rows, n=2..5, that do not sum to 1",
    )
    return Evidence(
        kind="symbolic",
        statement=CONSTANT_ROWS,
        checks=(
            Check(
                "softmax rows of general n whose sum is not proved 1",
                int(not softmax_row_sums_to_one()),
                "==",
                0,
            ),
            Check(depend, _depend_on(i, plain), "==", 0),
            Check(unlike_one, sum(map(rows_not_summing_to_one, explicit)), "==", 0),
        ),
        control=Control(
            "a Toeplitz factor multiplied after the softmax",
            (
                Check(depend, _depend_on(i, with_factor), "==", 0),
                Check(unlike_one, sum(map(rows_not_summing_to_one, _with_factor_outside())), "==", 0),
            ),
        ),
        budget=budget,
        notes="General n: lemma and layer step, for unexpanded sums; the induction over depth is left to the reader.",
    )


def _factor_inside(budget: str, seed: int) -> Evidence:
    logarithm = [explicit_pattern(size, symbolic_toeplitz(size).applyfunc(lambda c: sp.log(abs(c)))) for size in _SIZES]
    renormalised = [_normalise(pattern) for pattern in _with_factor_outside()]
    name = "explicit rows, n=2..5, that do not sum to 1"
    return Evidence(
        kind="symbolic",
        statement=FACTOR_INSIDE,
        checks=(
            Check(
                "softmax rows of general n whose sum is not proved 1",
                int(not softmax_row_sums_to_one()),
                "==",
                0,
            ),
            Check(f"log|C| inside: {name}", sum(map(rows_not_summing_to_one, logarithm)), "==", 0),
            Check(f"renormalised: {name}", sum(map(rows_not_summing_to_one, renormalised)), "==", 0),
        ),
        control=Control(
            "the factor outside the softmax, as URPE has it",
            (Check(name, sum(map(rows_not_summing_to_one, _with_factor_outside())), "==", 0),),
        ),
        budget=budget,
        notes="The lemma's arbitrary weights M cover both placements for general n.",
    )


def _with_factor_outside() -> list[sp.Matrix]:
    return [explicit_pattern(size).multiply_elementwise(symbolic_toeplitz(size)) for size in _SIZES]


def _half_the_gap(budget: str, seed: int) -> Evidence:
    u, y1, y2 = sp.symbols("u y_1 y_2", real=True)
    middle = (y1 + y2) / 2

    def excess(share: sp.Rational) -> sp.Expr:
        """(u−y₁)² + (u−y₂)² − 2(share·(y₁−y₂))²: never negative if the farther error always is that share."""
        return (u - y1) ** 2 + (u - y2) ** 2 - 2 * (share * (y1 - y2)) ** 2

    def margin(share: sp.Rational) -> sp.Expr:
        """The excess of the best row, u = middle, in units of the squared gap."""
        return sp.cancel(excess(share).subs(u, middle) / (y1 - y2) ** 2)

    half = sp.Rational(1, 2)
    unproved = sp.expand(excess(half) - 2 * (u - middle) ** 2 - margin(half) * (y1 - y2) ** 2) != 0
    name = "excess of the best row over the bound, in squared gaps"
    return Evidence(
        kind="symbolic",
        statement=HALF_THE_GAP,
        checks=(
            Check("identities excess = 2(u−middle)² + margin·gap² not proved", int(unproved), "==", 0),
            Check(name, float(margin(half)), ">=", 0),
        ),
        control=Control("a share of 0.51 instead of 1/2", (Check(name, float(margin(sp.Rational(51, 100))), ">=", 0),)),
        budget=budget,
        notes="One coordinate; summing it over the coordinates gives the norms, for any width.",
    )


def _position_aware(budget: str, seed: int) -> Evidence:
    def unproved(row_sum: sp.Expr) -> int:
        return int(sp.simplify(row_sum - i / n) != 0)

    uniform = 1 / n  # softmax of zero logits
    multiplied = sp.Sum(uniform, (j, 1, i)).doit()
    inside = sp.Sum(1 / sp.Sum(1, (j, 1, i)).doit(), (j, 1, i)).doit()
    name = "row sums of general n that are not proved i/n"
    return Evidence(
        kind="symbolic",
        statement=POSITION_AWARE,
        checks=(Check(name, unproved(multiplied), "==", 0),),
        control=Control("the same factor as log|C| inside the softmax", (Check(name, unproved(inside), "==", 0),)),
        budget=budget,
    )


def _depend_on(symbol: sp.Symbol, expressions: list[sp.Expr]) -> int:
    return sum(symbol in expression.free_symbols for expression in expressions)


CLAIMS = (
    Claim(CONSTANT_ROWS, "symbolic", _constant_rows),
    Claim(FACTOR_INSIDE, "symbolic", _factor_inside),
    Claim(HALF_THE_GAP, "symbolic", _half_the_gap),
    Claim(POSITION_AWARE, "symbolic", _position_aware),
)

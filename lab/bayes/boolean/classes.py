"""The finite classes of the paper as bit sets: conjunctions, parities, thresholds and disjunctions of conjunctions.

Source: Bhattamishra et al. (2024, icl_boolean). Disjunctions and conjunctive normal forms are the duals of
conjunctions and disjunctive ones, see `dual`.
"""

import itertools
import math
from collections import Counter

import numpy as np

from microtome.lab.bayes.boolean.finite import FiniteClass, Layout, check_count
from microtome.lab.bayes.boolean.literals import Literals, log_forced
from microtome.lab.bayes.boolean.signs import check_share
from microtome.lab.bayes.boolean.tables import CoordinateTables

MAX_TABLE_BITS = 2**31  # 256 MB


def conjunctions(law: Literals, force: float = 0.0) -> FiniteClass:
    """Conjunctions of literals, grouped by their number, with inputs forced to satisfy them with probability `force`.

    Raises:
        ValueError: if there are too many, or force is no probability.
    """
    check_share(force=force)
    check_count(law.count, f"conjunctions over {law.dim} bits", "without noise `VersionSpace` counts them")
    w = law.enumerate()
    sizes, counts = np.unique(np.count_nonzero(w, axis=1), return_counts=True)
    layout = Layout(counts)
    contradict = CoordinateTables(layout.pack((w == 1).T), layout.pack((w == -1).T), np.bitwise_or)
    by_value = np.stack(log_forced(sizes, force))
    return FiniteClass(
        dim=law.dim,
        layout=layout,
        log_prior=law.log_prior()[sizes],
        labels=lambda xs: ~contradict(xs),
        log_inputs=lambda xs: np.broadcast_to(by_value, (len(xs), *by_value.shape)),
    )


def parities(dim: int, size: int | None = None) -> FiniteClass:
    """+1 iff an odd number of the coordinates in a subset are +1; all subsets alike, or all of one size.

    Raises:
        ValueError: if there are too many, or the size is above dim.
    """
    law = Literals(dim, relevant=0.5, monotone=True, size=size)
    check_count(law.count, f"parities over {dim} bits", "of all subsets without noise take `ParitySpan`")
    member = law.enumerate().T == 1
    layout = Layout(np.array([member.shape[1]]))
    inside = layout.pack(member)
    odd = CoordinateTables(np.zeros_like(inside), inside, np.bitwise_xor)
    return FiniteClass(dim, layout, np.array([-math.log(law.count)]), odd)


def thresholds(weights: np.ndarray, offsets: np.ndarray, log_prior: np.ndarray) -> FiniteClass:
    """sign(xᵀw − κ) of uniform inputs.

    Args:
        weights: integers, [hypothesis dim].
        offsets: κ, [hypothesis], such that no xᵀw − κ is zero.
        log_prior: of each hypothesis, [hypothesis]; hypotheses alike in it are one group.

    Raises:
        ValueError: if there are too many hypotheses, or their values at all x would not fit in memory.
    """
    count, dim = weights.shape
    check_count(count, f"thresholds over {dim} bits", "take fewer dimensions")
    if count << dim > MAX_TABLE_BITS:
        raise ValueError(
            f"{count:,} thresholds at all 2^{dim} inputs are more than {MAX_TABLE_BITS:,} bits; take fewer dimensions."
        )
    levels, level = np.unique(log_prior.round(12), return_inverse=True)
    order = np.argsort(level, kind="stable")
    weights, offsets = weights[order].astype(np.float32), offsets[order].astype(np.float32)
    layout = Layout(np.bincount(level))
    every_x = (np.arange(1 << dim)[:, None] >> np.arange(dim)) & 1
    table = np.concatenate(
        [layout.pack(row[None] @ weights.T > offsets) for row in (2 * every_x - 1).astype(np.float32)]
    )
    return FiniteClass(dim, layout, levels, lambda xs: table[xs @ (1 << np.arange(dim))])


def normal_forms(law: Literals, clauses: int = 3, force: float = 0.0) -> FiniteClass:
    """Disjunctions of conjunctions, each drawn from `law`; the one that inputs are forced to satisfy comes first.

    The other clauses are unordered. A group has one first clause and others of one probability; that probability
    carries the number of orders of the others.

    Raises:
        ValueError: if there are too many, force is no probability, or there is no clause.
    """
    check_share(force=force)
    if clauses < 1:
        raise ValueError(f"a normal form has at least 1 clause, not {clauses}.")
    count = law.count * math.comb(law.count + clauses - 2, clauses - 1)
    check_count(count, f"normal forms of {clauses} clauses over {law.dim} bits", "take fewer dimensions or clauses")
    if law.count << law.dim > MAX_TABLE_BITS >> 7:  # the product below holds 64-bit integers
        raise ValueError(
            f"{law.count:,} clauses at all 2^{law.dim} inputs do not fit in memory; take fewer dimensions."
        )
    w = law.enumerate()
    sizes = np.count_nonzero(w, axis=1)
    true = _satisfied(w)  # x clause
    rest = np.array(list(itertools.combinations_with_replacement(range(len(w)), clauses - 1)), dtype=int)
    log_rest = law.log_prior()[sizes][rest].sum(1) + _log_orders(rest)
    levels, level = np.unique(log_rest.round(12), return_inverse=True)
    rest = rest[np.argsort(level, kind="stable")]
    others = Layout(np.bincount(level))
    others_true = others.pack(np.stack([row[rest].any(1) for row in true]))  # x word
    log_first = law.log_prior()[sizes]
    not_forced, forced = log_forced(sizes, force)
    powers = 1 << np.arange(law.dim)

    def labels(xs: np.ndarray) -> np.ndarray:
        x = xs @ powers
        bits = np.where(true[x][:, :, None], ~np.uint64(0), others_true[x][:, None])
        return bits.reshape(len(xs), -1)

    def log_inputs(xs: np.ndarray) -> np.ndarray:
        by_first = np.where(true[xs @ powers], forced, not_forced)
        by_group = np.repeat(by_first, len(levels), axis=1)
        return np.broadcast_to(by_group[:, None], (len(xs), 2, by_group.shape[1]))

    return FiniteClass(
        dim=law.dim,
        layout=Layout(np.tile(others.sizes, len(w))),
        log_prior=(log_first[:, None] + levels).ravel(),
        labels=labels,
        log_inputs=log_inputs,
    )


def _satisfied(w: np.ndarray) -> np.ndarray:
    """Whether x satisfies the conjunction w, for every x in the order of its code, [x hypothesis]."""
    dim = w.shape[1]
    every_x = 2 * ((np.arange(1 << dim)[:, None] >> np.arange(dim)) & 1) - 1
    return every_x @ w.T == np.count_nonzero(w, axis=1)


def _log_orders(rest: np.ndarray) -> np.ndarray:
    """log of the number of different orders of each multiset of clauses, [multiset]."""
    same = [math.prod(map(math.factorial, Counter(row).values())) for row in rest.tolist()]
    return math.lgamma(rest.shape[1] + 1) - np.log(np.array(same, dtype=float))

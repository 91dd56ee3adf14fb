"""Teaching sequences (Bhattamishra et al. 2024, icl_boolean): they leave one function, in the published order.

Frequencies are refused beyond 5 standard errors, less than once in a million runs.
"""

import itertools
import math

import pytest
import torch
from torch import Tensor

from microtome.lab.tasks.boolean import DNF, Conjunction


def frequency_is(p: float, flags: Tensor) -> bool:
    """Whether independent flags have this probability, up to 5 standard errors."""
    return abs(flags.double().mean().item() - p) <= 5 * math.sqrt(p * (1 - p) / flags.numel()) + 1e-12


def consistent(xs: Tensor, ys: Tensor, monotone: bool) -> Tensor:
    """How many conjunctions agree with each prompt, [batch], by trying all of them."""
    every = itertools.product((0.0, 1.0) if monotone else (0.0, 1.0, -1.0), repeat=xs.shape[2])
    w = torch.tensor(list(every))
    truth = torch.einsum("bpd,hd->bhp", xs, w) == w.abs().sum(1)[:, None]
    return (truth == (ys > 0)[:, None]).all(-1).sum(-1)


@pytest.mark.parametrize("monotone", [True, False])
def test_a_teaching_sequence_leaves_one_consistent_hypothesis(monotone: bool, generator: torch.Generator) -> None:
    task = Conjunction(6, relevant=0.4, monotone=monotone, force=0.4, taught=1.0)
    prompt = task.sample(300, 9, generator)
    t = (prompt.latents["w"] != 0).sum(1)
    for literals in t.unique().tolist():
        length = literals + (1 if monotone else 2)
        xs, ys = (part[t == literals, :length] for part in (prompt.xs, prompt.ys))
        assert (consistent(xs, ys, monotone) == 1).all()
        if 1 < length <= 9:
            assert (consistent(xs[:, :-1], ys[:, :-1], monotone) > 1).all()
    assert prompt.latents["taught"].all()


def test_the_order_of_a_teaching_sequence(generator: torch.Generator) -> None:
    task = Conjunction(7, relevant=0.5, taught=1.0)
    prompt = task.sample(50, 12, generator)
    for w, xs, ys in zip(prompt.latents["w"], prompt.xs, prompt.ys, strict=True):
        t = int((w != 0).sum())
        base = torch.where(w != 0, w, -1.0)
        assert torch.equal(xs[0], base)
        assert torch.equal(xs[1], torch.where(w != 0, w, 1.0))
        flips = [int((x != base).nonzero()) for x in xs[2 : t + 2]]
        assert flips == (w > 0).nonzero().flatten().tolist() + (w < 0).nonzero().flatten().tolist()
        assert ys[: t + 2].tolist() == [1.0, 1.0] + [-1.0] * t


def test_half_of_the_prompts_taught(generator: torch.Generator) -> None:
    prompt = Conjunction(8, taught=0.5).sample(4000, 10, generator)
    taught, w = prompt.latents["taught"], prompt.latents["w"]
    assert frequency_is(0.5, taught)
    first = torch.where(w != 0, w, -1.0)
    assert (prompt.xs[:, 0] == first)[taught].all()
    assert (prompt.xs[:, 0] == first)[~taught].all(-1).double().mean() < 0.1


def test_clauses_are_taught_one_after_the_other(generator: torch.Generator) -> None:
    prompt = DNF(6, relevant=0.3, monotone=True, taught=1.0).sample(100, 24, generator)
    for clauses, xs in zip(prompt.latents["w"], prompt.xs, strict=True):
        expected = []
        for w in clauses:
            base = 2 * w - 1
            expected.append(base)
            for j in w.nonzero().flatten():
                expected.append(base.clone())
                expected[-1][j] = -1
        assert torch.equal(xs[: len(expected)], torch.stack(expected)[:24])


def test_a_sequence_that_does_not_fit_is_cut_off(generator: torch.Generator) -> None:
    prompt = Conjunction(6, relevant=1.0, taught=1.0).sample(5, 3, generator)
    assert prompt.xs.shape == (5, 3, 6)
    assert prompt.ys.tolist() == [[1.0, 1.0, -1.0]] * 5

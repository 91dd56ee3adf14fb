"""How do transformers learn in-context beyond simple functions (Guo et al. 2024): its learner, its checks, its claim.

The checks on the laws and their exact answers stand with the tasks, those on the construction with the statements,
those on pasting with the probes.
"""

import pytest
import torch

from microtome.lab import zoo
from microtome.theory import claims
from microtome.theory.claims import _icl_representations as measures
from microtome.theory.claims import icl_representations as claim


@pytest.mark.parametrize("variant", ["small", "full"])
def test_the_learner_is_a_gpt2(variant):
    """The blocks and the final norm have as many parameters as transformers' GPT-2 of the same size."""
    from transformers import GPT2Config, GPT2Model

    model = zoo.build("icl_representations", variant)
    cfg = model.cfg
    with torch.device("meta"):
        theirs = GPT2Model(
            GPT2Config(vocab_size=1, n_positions=1, n_embd=cfg.d_model, n_layer=cfg.n_layers, n_head=cfg.n_heads)
        )
    wanted = sum(p.numel() for part in (theirs.h, theirs.ln_f) for p in part.parameters())
    assert sum(p.numel() for part in (model.blocks, model.ln_final) for p in part.parameters()) == wanted
    assert cfg.n_ctx == 2 * {"small": 12, "full": 41}[variant]


def test_the_learner_of_dynamics_reads_states():
    model = zoo.build("icl_representations", "dynamics", n_layers=1)
    assert model(torch.zeros(2, 41, 20)).shape == (2, 41, 20)
    assert model.cfg.n_ctx == 41


def test_pasted_labels_have_the_variance_of_the_first_task(generator):
    """4,000 labels at one position each: relative standard error √(2/4000)·(heavy tails) < 5%; four of them allowed."""
    first = measures.TASK.sample(4000, 1, generator).ys.square().mean()
    second = measures.linear_task().sample(4000, 1, generator).ys.square().mean()
    assert second.item() == pytest.approx(first.item(), rel=0.2)


def test_probes_of_an_untrained_learner_do_not_pass():
    found = measures.decoded(measures.learner(0), seed=0)
    assert not all(check.passes for check in claim._probe_checks(found))
    assert set(found) == {(tokens, target) for tokens in "xy" for target in measures.TARGETS}


def test_the_claim_does_not_fail_at_the_quick_budget():
    evidence = claims.load("icl_representations").run(budget="quick", seed=0)
    assert evidence.verdict in ("holds", "inconclusive"), evidence.to_json()
    constructed = [part for part in evidence.parts if part.kind != "empirical"]
    assert constructed
    assert all(part.verdict == "holds" for part in constructed)


@pytest.mark.slow
def test_the_claim_holds_at_the_full_budget():
    evidence = claims.load("icl_representations").run(budget="full", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()

"""A Survey of Mamba (2024): its checks, the published sizes, and its claim."""

import pytest
import torch

from microtome.kernels.scan import selective, ssd
from microtome.lab import zoo
from microtome.lab.tasks.selective_copying import SelectiveCopying
from microtome.lab.zoo.streaming import Stream
from microtome.theory import claims
from microtome.theory.claims import survey_mamba
from microtome.theory.statements import survey_mamba_numeric as statements


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_1_recurrence_scan_chunks_and_quadratic_form_are_one(dtype, bound):
    x, *rest = statements.scan_inputs(150, 1, dtype)
    wanted = selective.reference(x, *rest)
    assert statements.difference(selective.selective_scan(x, *rest), wanted) <= bound
    matrix = selective.effective_matrix(*rest)
    assert statements.difference(torch.einsum("bcqk,bkc->bqc", matrix, x), wanted) <= bound
    inputs = statements.ssd_inputs(150, 1, dtype)
    wanted = ssd.reference(*inputs)
    assert max(statements.difference(form(*inputs), wanted) for form in (ssd.ssd, ssd.recurrent)) <= bound


def test_2_the_operator_of_the_scan_is_associative(generator):
    x, y, z = (tuple(torch.rand(2, 7, generator=generator, dtype=torch.float64)) for _ in range(3))
    left = selective.compose(selective.compose(x, y), z)
    right = selective.compose(x, selective.compose(y, z))
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, atol=1e-14, rtol=1e-14)


def test_3_constant_steps_and_maps_are_a_convolution(generator):
    """Of the zoo's own mixer: without selection its matrix is Toeplitz."""
    model = zoo.sequence(d_vocab=7, mixer={"name": "mamba", "selective": []}, d_model=8, n_heads=2, n_layers=1).double()
    (effective,) = model.effective_attention(torch.randint(7, (1, 20), generator=generator))
    torch.testing.assert_close(effective.matrix[..., 1:, 1:], effective.matrix[..., :-1, :-1])


@pytest.mark.parametrize("mixer", ["mamba", "mamba2"])
def test_4_a_stream_is_the_whole(mixer, generator):
    model = survey_mamba_model(mixer)
    tokens = torch.randint(7, (2, 40), generator=generator)
    stream = Stream(model, 2)
    streamed = torch.stack([stream.push(token) for token in tokens.unbind(1)], 1)
    torch.testing.assert_close(streamed, model(tokens), atol=1e-10, rtol=1e-8)


def survey_mamba_model(mixer):
    from microtome.lab.zoo.survey_mamba import language_model

    return language_model(16, 2, mixer={"name": mixer, "d_state": 5}, n_heads=2, d_vocab=7).double()


def test_5_without_decay_it_is_cumulative_linear_attention():
    q, k, v, log_decay = statements.ssd_inputs(100, 2, torch.float64)
    running = torch.einsum("bhns,bhnd->bhnsd", k, v).cumsum(2)
    wanted = torch.einsum("bhns,bhnsd->bhnd", q, running)
    assert statements.difference(ssd.ssd(q, k, v, torch.zeros_like(log_decay)), wanted) <= 1e-12


def test_6_blocks_below_the_diagonal_have_the_rank_of_the_state():
    _, *rest = statements.scan_inputs(40, 3, torch.float64)
    block = selective.effective_matrix(*rest)[..., 20:, :20]
    assert torch.linalg.matrix_rank(block, rtol=1e-10).max() <= 8


@pytest.mark.parametrize(("variant", "wanted"), [("mamba_130m", 129_135_360), ("mamba_370m", 371_516_416)])
def test_published_sizes(variant, wanted):
    with torch.device("meta"):
        model = zoo.build("survey_mamba", variant)
    assert sum(p.numel() for p in model.parameters()) == wanted
    if variant == "mamba_130m":
        assert sum(p.numel() for p in model.blocks[0].mixing.parameters()) == 3_770_880
    assert model.unembed.weight is model.embed.weight


def test_mamba_2_has_the_size_that_transformers_gives_it():
    from transformers import Mamba2Config, Mamba2ForCausalLM

    with torch.device("meta"):
        model = zoo.build("survey_mamba", "mamba2_130m")
        theirs = Mamba2ForCausalLM(
            Mamba2Config(
                vocab_size=50_280,
                hidden_size=768,
                num_hidden_layers=24,
                num_heads=24,
                head_dim=64,
                state_size=128,
                n_groups=1,
                tie_word_embeddings=True,
            )
        )
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_the_gated_recurrence_holds_for_the_zero_order_hold_only():
    left = statements.gate_errors()
    assert left["zero-order hold"] == "0"
    assert left["Euler"] != "0"


def test_spans_grow_to_the_task_s(generator):
    objective = survey_mamba.GrowingSpans(SelectiveCopying(4, 2, 32), steps=10)
    lengths = [objective.batch(step, generator).targets.shape[1] for step in range(10)]
    assert lengths[0] == survey_mamba.SHORTEST_SPAN + 2
    assert lengths == sorted(lengths)
    assert lengths[6:] == [34] * 4
    fixed = survey_mamba.GrowingSpans(SelectiveCopying(4, 2, 32, fixed=True), steps=10)
    assert fixed.batch(0, generator).targets.shape[1] == 34


def test_accuracy_counts_the_markers_only():
    class Oracle(torch.nn.Module):
        """Says symbol 0 at every marker."""

        def forward(self, tokens):
            logits = torch.zeros(*tokens.shape, 18)
            logits[..., 0] = 1.0
            return logits

    found = survey_mamba.accuracy(Oracle(), survey_mamba.TASK, 0)
    assert abs(found - 1 / 16) < 6 * (15 / 256 / 2048) ** 0.5  # six standard errors, false alarms below 1e-8


def test_the_claim_at_the_quick_budget():
    evidence = claims.load("survey_mamba").run(budget="quick", seed=0)
    assert evidence.verdict in ("holds", "inconclusive"), evidence.to_json()
    assert all(part.verdict == "holds" for part in evidence.parts[:-2])


@pytest.mark.slow
def test_at_the_full_budget_all_but_the_small_s6_holds():
    """The claim's docstring says what S6 reaches; S4D does what the claim says of it."""
    evidence = claims.load("survey_mamba").run(budget="full", seed=0)
    verdicts = {part.statement.name: part.verdict for part in evidence.parts}
    diagonal = next(part for part in evidence.parts if part.statement is survey_mamba.SELECTIVITY)
    verdicts.pop(diagonal.statement.name)
    assert set(verdicts.values()) == {"holds"}, evidence.to_json()
    assert [check.passes for check in diagonal.checks[1:]] == [True, True], diagonal.notes

"""The survey of faster and lighter transformers (2021): its checks, published sizes, and its claim.

Gradients and inverses of checkpointed and reversible depth stand in `tests/lab/zoo/test_recomputing_depth.py`, the
objectives in `tests/lab/train/test_distillation_and_electra.py`, Transformer-XL in `tests/lab/zoo/test_segments.py`.
"""

import math

import pytest
import torch

from microtome.kernels.random_features import positive_features
from microtome.lab import zoo
from microtome.lab.zoo.compression import pruning
from microtome.theory import claims
from microtome.theory.claims import _survey_faster_lighter as measure
from microtome.theory.claims import survey_faster_lighter as claim


def count(model):
    return sum(p.numel() for p in model.parameters())


def published(name):
    import transformers

    configs = {
        "BERT-base": (transformers.BertModel, transformers.BertConfig()),
        "ALBERT-base": (
            transformers.AlbertModel,
            transformers.AlbertConfig(hidden_size=768, num_attention_heads=12, intermediate_size=3072),
        ),
        "DistilBERT": (transformers.DistilBertModel, transformers.DistilBertConfig()),
    }
    model, config = configs[name]
    with torch.device("meta"):
        return model(config)


@pytest.mark.global_rng
@pytest.mark.parametrize(
    ("name", "parameters"),
    [("BERT-base", 109_482_240), ("ALBERT-base", 11_683_584), ("DistilBERT", 66_362_880)],
)
def test_published_counts(name, parameters):
    assert count(published(name)) == parameters


@pytest.mark.global_rng
@pytest.mark.parametrize(
    ("name", "depth", "n_layers", "d_embed", "layers"),
    [
        ("BERT-base", "plain", 12, None, lambda m: m.encoder),
        ("ALBERT-base", "shared", 12, 128, lambda m: m.encoder.albert_layer_groups),
        ("DistilBERT", "plain", 6, None, lambda m: m.transformer),
    ],
)
def test_the_zoo_s_blocks_and_embeddings_are_as_large(name, depth, n_layers, d_embed, layers):
    theirs = published(name)
    with torch.device("meta"):
        model = zoo.sequence(
            stem={"name": "tokens", "d_vocab": 30_522 if d_embed is None else 30_000, "d_embed": d_embed},
            norm={"name": "layernorm", "placement": "post"},
            depth=depth,
            d_model=768,
            n_layers=n_layers,
            n_heads=12,
            n_ctx=512,
            causal=False,
        )
    assert count(model.blocks) == count(layers(theirs))
    words = theirs.embeddings.word_embeddings.weight.numel()
    if d_embed is not None:
        words += count(theirs.encoder.embedding_hidden_mapping_in)
    assert count(model.embed) == words


@pytest.mark.parametrize("n_layers", [1, 4, 9])
def test_sharing_makes_the_count_independent_of_depth(n_layers):
    one = measure.build(64, 0, depth="shared", n_layers=1)
    assert count(measure.build(64, 0, depth="shared", n_layers=n_layers)) == count(one)
    assert count(measure.build(64, 0, n_layers=n_layers).blocks) == n_layers * count(one.blocks)


def mixed(mixer, n=24, seed=0, **options):
    """hook_z of one layer in float64 on random tokens, with the model and the tokens."""
    part = {"name": mixer, **options}
    model = measure.build(n, seed, mixer=part, n_layers=1, feedforward="none").double().eval()
    inputs = measure.tokens(n, seed, batch=2)
    return model, inputs, model.run_with_cache(inputs)[1]["blocks.0.attn.hook_z"]


def test_linformer_of_full_rank_with_identities_is_exact():
    linformer, inputs, _ = mixed("linformer", rank=24)
    softmax, _, _ = mixed("softmax")
    measure.with_weights_of(softmax, linformer)
    with torch.no_grad():
        linformer.blocks[0].attn.e.copy_(torch.eye(24))
    torch.testing.assert_close(linformer(inputs), softmax(inputs), atol=1e-10, rtol=0)


def test_reformer_of_one_bucket_is_shared_qk_attention():
    model, _, z = mixed("reformer", n_buckets=1)
    inputs = measure.tokens(24, 0, batch=2)
    _, cache = model.run_with_cache(inputs)
    q, v = (cache[f"blocks.0.attn.hook_{name}"].transpose(1, 2) for name in "qv")
    scores = q @ torch.nn.functional.normalize(q, dim=-1).mT / q.shape[-1] ** 0.5
    scores = scores.masked_fill(torch.eye(24, dtype=torch.bool), -1e5)
    torch.testing.assert_close(z.transpose(1, 2), scores.softmax(-1) @ v, atol=1e-10, rtol=0)


def test_performer_s_kernel_has_the_mean_of_the_exponential_and_variance_over_m(generator):
    """Over 4,000 draws of m features the mean is within 5 standard errors (false alarm below 1e-6); the variance falls
    by 4 as m grows by 4, within a fifth, over 5 standard errors of its estimate."""
    q, k = (0.5 * torch.randn(4, generator=generator, dtype=torch.float64) for _ in range(2))
    variances = []
    for m in (8, 32):
        omega = torch.randn(4000, m, 4, generator=generator, dtype=torch.float64)
        queries, keys = (x.expand(4000, 1, 4) for x in (q, k))
        estimates = (positive_features(queries, omega) * positive_features(keys, omega)).sum((-2, -1))
        error = (estimates.mean() - (q @ k).exp()).abs()
        assert error < 5 * estimates.std() / 4000**0.5
        variances.append(estimates.var().item())
    assert variances[0] / variances[1] == pytest.approx(4, rel=0.2)


def test_what_is_counted_is_counted():
    """One layer's products by hand: three projections and one out, an unembedding, and attention; three times a product
    with its two gradients, the first without the tokens' own."""
    n, d, vocab = 32, measure.D_MODEL, measure.VOCAB
    model = measure.build(n, 0, n_layers=1, feedforward="none")
    inputs = measure.tokens(n, 0)
    found = measure.operations(lambda: model(inputs))
    linear = 2 * n * d * (4 * d + vocab)
    attention = 4 * n * n * d
    assert found == 3 * linear + attention + 10 * n * n * d


def test_a_pruned_weight_is_not_stored():
    model = measure.build(32, 0)
    before = measure.stored(model)
    weights = sum(module.weight.numel() for module, _ in pruning.prunable(model))
    pruning.magnitude(model, 0.5)
    assert measure.stored(model) == pytest.approx(before - weights / 2, abs=1)


def test_the_slope_of_plain_attention_goes_to_two_and_that_of_its_projections_is_one():
    assert measure.slope(lambda _: {}, [2048, 8192], 0) > 1.95
    without_products = {"mixer": "fnet"}  # transforms are not counted
    assert measure.slope(lambda _: without_products, [64, 128], 0) == pytest.approx(1.0, abs=1e-6)


def test_best_everywhere_is_found():
    rows = {"a": measure.Row(1, 1, 1, 1.0, 0.0), "b": measure.Row(2, 1, 1, 1.0, math.inf)}
    assert claim.best_everywhere(rows) == ["a"]
    rows["b"] = measure.Row(0, 2, 2, 1.0, 0.0)
    assert claim.best_everywhere(rows) == []


def test_the_claim_holds_at_the_quick_budget():
    evidence = claims.load("survey_faster_lighter").run(budget="quick", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()
    for check in evidence.control.checks:
        assert not check.passes, "masking alone saves nothing"


@pytest.mark.slow
def test_the_claim_holds_at_the_full_budget():
    evidence = claims.load("survey_faster_lighter").run(budget="full", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()

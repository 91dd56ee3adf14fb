"""The distribution transformer (Whittle et al. 2025, distribution_transformers): sizes, decoder, sets, refusals."""

import math

import pytest
import torch
from torch import nn

from microtome.lab import zoo
from microtome.lab.bayes.gaussian_mixture import GaussianMixture
from microtome.lab.bayes.linear_gaussian import filtered
from microtome.lab.bayes.mixture_tokens import tokenise
from microtome.lab.tasks.distributions import ConjugateMixtures, GaussianProcess, Qubit, SensorFusion, Variance
from microtome.lab.tasks.distributions.fusion import MOTION
from microtome.lab.tasks.draw import Draw

SLUG = "distribution_transformers"
SMALL = {"d_model": 16, "n_layers": 2, "n_heads": 4, "d_mlp": 24}


def shaken(model, generator):
    """The model with every parameter moved, so that nothing is zero as at the start."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture
def model(generator):
    return shaken(zoo.build(SLUG, "mixture_two_sensors", dim=2, observations=(3, 1), **SMALL), generator)


@pytest.fixture
def inputs(generator):
    prior = ConjugateMixtures(3, 2, concentration=1.0).sample(5, Draw(generator, torch.float32))
    return tokenise(prior), torch.randn(5, 4, 3, generator=generator), torch.randn(5, 2, 1, generator=generator)


def same(one, other, atol=1e-5):
    for a, b in ((one.weights, other.weights), (one.means, other.means), (one.covariances, other.covariances)):
        torch.testing.assert_close(a, b, atol=atol, rtol=1e-4)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_published_sizes():
    model = zoo.build(SLUG)
    assert count(model) == 854_211
    assert count(model.blocks) == 850_752
    assert count(zoo.build(SLUG, "mixture_two_sensors")) == 855_331


@pytest.mark.parametrize(
    ("variant", "task"),
    [
        ("variance", Variance()),
        ("qubit", Qubit()),
        ("gaussian_process", GaussianProcess()),
        ("sensor_fusion", SensorFusion(draws=2)),
    ],
)
def test_every_variant_answers_its_task(variant, task, generator):
    model, problem = zoo.build(SLUG, variant), task.sample(2, generator)
    answer = model.posterior(problem.prior, *problem.observations)
    assert answer.means.shape == (2, {"sensor_fusion": 4, "gaussian_process": 20}.get(variant, 5), task.dim)
    assert torch.isfinite(answer.log_prob(problem.target)).all()


def decoder_of(model):
    """torch's decoder with the model's weights."""
    options = model.options
    layer = nn.TransformerDecoderLayer(
        options.d_model, options.n_heads, options.d_mlp, dropout=0.0, activation="gelu", batch_first=True
    )
    decoder = nn.TransformerDecoder(layer, options.n_layers).eval()
    with torch.no_grad():
        for block, theirs in zip(model.blocks, decoder.layers, strict=True):
            for ours, mha in ((block.attn, theirs.self_attn), (block.cross, theirs.multihead_attn)):
                mha.in_proj_weight.copy_(torch.cat([ours.q.weight, ours.k.weight, ours.v.weight]))
                mha.in_proj_bias.copy_(torch.cat([ours.q.bias, ours.k.bias, ours.v.bias]))
                mha.out_proj.load_state_dict(ours.o.state_dict())
            theirs.linear1.load_state_dict(block.mlp.in_.state_dict())
            theirs.linear2.load_state_dict(block.mlp.out.state_dict())
            for ours, norm in ((block.ln1, theirs.norm1), (block.ln2, theirs.norm2), (block.ln3, theirs.norm3)):
                norm.weight.copy_(ours.weight)
                norm.bias.copy_(ours.bias)
    return decoder


@pytest.mark.global_rng  # torch's own layers draw their start from it
def test_the_decoder_is_torchs(model, generator):
    decoder = decoder_of(model)
    assert count(decoder) == count(model.blocks)
    x, data = torch.randn(5, 3, 16, generator=generator), torch.randn(5, 7, 16, generator=generator)
    wanted = decoder(x, data)
    got = x
    for block in model.blocks:
        got = block(got, data)
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.global_rng
def test_the_start_is_torchs_with_silent_writes():
    """Bounds of the uniform start, zero writes where the paper puts them, layers alike as torch's copies are."""
    model = zoo.build(SLUG)
    layer = nn.TransformerDecoderLayer(32, 8)
    for block in model.blocks:
        for silent in (block.attn.o.weight, block.attn.o.bias, block.mlp.out.weight, block.mlp.out.bias):
            assert torch.equal(silent, torch.zeros_like(silent))
        assert torch.equal(block.cross.o.bias, torch.zeros(32))
        for ours, theirs in (
            (block.attn.q.weight, layer.self_attn.in_proj_weight),
            (block.cross.v.weight, layer.multihead_attn.in_proj_weight),
            (block.cross.o.weight, layer.multihead_attn.out_proj.weight),
        ):
            assert ours.abs().max().item() == pytest.approx(theirs.abs().max().item(), rel=0.03)
        assert torch.equal(block.cross.q.weight, model.blocks[0].cross.q.weight)


def test_silent_writes_make_no_identity(generator):
    model = zoo.build(SLUG, **SMALL)
    x, data = torch.randn(5, 3, 16, generator=generator), torch.randn(5, 7, 16, generator=generator)
    assert (model.blocks[0](x, data) - x).abs().max() > 0.1
    assert (model.blocks[0](x, data) - model.blocks[0](x, data + 1)).abs().max() > 0.01


def test_the_seed_alone_decides_the_start():
    weights = [zoo.build(SLUG, seed=seed, **SMALL).embed[0].weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_permuted_components_are_permuted_answers(model, inputs):
    prior, *data = inputs
    order = torch.tensor([2, 0, 1])
    plain, turned = model(prior, *data), model(prior[:, order], *data)
    same(turned.posterior, plain.posterior.permuted(order))
    same(turned.prior, plain.prior.permuted(order))
    assert (plain.posterior.means[:, 0] - plain.posterior.means[:, 1]).abs().max() > 1e-3


def test_permuted_data_are_the_same_answer(model, inputs):
    prior, many, few = inputs
    plain = model(prior, many, few)
    same(model(prior, many.flip(1), few.flip(1)).posterior, plain.posterior)
    other = model(prior, many, few + 1)
    assert (other.posterior.means - plain.posterior.means).abs().max() > 1e-3
    same(other.prior, plain.prior)


def test_any_number_of_components_and_data(model, inputs, generator):
    prior, many, few = inputs
    assert model(prior[:, :1], many, few).posterior.weights.tolist() == [[1.0]] * 5
    no_points = few[:, :0]
    answer = model(prior.repeat(1, 3, 1), many, no_points).posterior
    assert answer.means.shape == (5, 9, 2)


def test_answers_are_mixtures(model, inputs):
    for mixture in model(*inputs):
        torch.testing.assert_close(mixture.weights.sum(-1), torch.ones(5))
        assert (torch.linalg.eigvalsh(mixture.to(torch.float64).covariances) > 0).all()


def test_the_answer_to_a_mixture_is_that_to_its_tokens(model, inputs, generator):
    prior = ConjugateMixtures(3, 2).sample(5, Draw(generator, torch.float64))
    same(model.posterior(prior, *inputs[1:]), model(tokenise(prior).float(), *inputs[1:]).posterior)
    sure = GaussianMixture.of(torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2, 2), torch.eye(2).expand(1, 2, 2, 2))
    assert torch.isfinite(model.posterior(sure, inputs[1][:1], inputs[2][:1]).means).all()


def test_patterns_of_both_attentions_can_be_read_and_edited(model, inputs):
    plain, cache = model.run_with_cache(*inputs, names_filter=lambda _: True)
    assert cache["blocks.0.attn.hook_pattern"].shape == (5, 4, 3, 3)
    assert cache["blocks.1.cross.hook_pattern"].shape == (5, 4, 3, 6)
    assert cache["blocks.1.cross.hook_k"].shape == (5, 6, 4, 4)
    assert cache["hook_data"].shape == (5, 6, 16)
    pattern = cache["blocks.1.cross.hook_pattern"]
    torch.testing.assert_close(cache["blocks.1.cross.hook_effective_pattern"], pattern)
    entropy = -(pattern * pattern.log()).sum(-1)
    torch.testing.assert_close(cache["blocks.1.cross.hook_row_entropy"], entropy, atol=1e-5, rtol=1e-4)
    z = torch.einsum("bhqk,bkhd->bqhd", pattern, cache["blocks.1.cross.hook_v"])
    torch.testing.assert_close(cache["blocks.1.cross.hook_z"], z, atol=1e-5, rtol=1e-4)
    assert torch.equal(plain.posterior.means, model(*inputs).posterior.means)

    def first_datapoint_only(tensor, hook):
        return torch.zeros_like(tensor).index_fill(-1, torch.tensor([0]), 1.0)

    edits = [(f"blocks.{i}.cross.hook_pattern", first_datapoint_only) for i in range(2)]
    edited = model.run_with_hooks(*inputs, fwd_hooks=edits)
    prior, many, few = inputs
    same(edited.posterior, model(prior, many[:, :1], few[:, :0]).posterior)


def test_cached_axes_are_the_declared_ones(model, inputs):
    sizes = {"batch": 5, "pos": 3, "head": 4, "d_head": 4, "d_model": 16, "d_mlp": 24, "one": 1}
    _, cache = model.run_with_cache(*inputs)
    for info in model.points():
        if info.status in ("live", "recomputable"):
            keys = 6 if ".cross." in info.name or info.name == "hook_data" else 3
            wanted = tuple({**sizes, "query": 3, "key": keys}[axis] for axis in info.axes)
            assert cache[info.name].shape == wanted, info.name
    assert {p.name: p.status for p in model.points()}["blocks.0.hook_resid_mid"] == "absent"
    assert model.cfg.n_layers == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({0: torch.zeros(5, 3, 5)}, r"the prior must be \[batch component token=6\], not \[5, 3, 5\]"),
        ({0: torch.zeros(5, 0, 6)}, "the prior must be"),
        ({1: torch.zeros(5, 4, 2)}, r"observations of kind 0 must be \[batch=5 points size=3\], not \[5, 4, 2\]"),
        ({2: torch.zeros(4, 2, 1)}, "observations of kind 1 must be"),
        ({2: torch.full((5, 2, 1), math.nan)}, "kind 1 must be finite, but holds an infinity or a NaN"),
        ({0: torch.full((5, 3, 6), math.inf)}, "the prior must be finite"),
        ({1: torch.zeros(5, 0, 3), 2: torch.zeros(5, 0, 1)}, "a posterior needs at least one datapoint"),
    ],
)
def test_bad_inputs_are_refused_in_one_sentence(change, words, model, inputs, untyped):
    given = [change.get(i, tensor) for i, tensor in enumerate(inputs)]
    with pytest.raises(ValueError, match=words):
        model(*given)


def test_the_model_stands_for_bayes_rule_in_a_filter(generator):
    """Five steps of the paper's moving target: predictions exact, updates by an untrained model."""
    task, model = SensorFusion(draws=2), zoo.build(SLUG, "sensor_fusion", **SMALL)
    problem, draw = task.sample(3, generator, dtype=torch.float64), Draw(generator, torch.float64)
    states = [problem.target]
    for _ in range(4):
        states.append(MOTION.sample(states[-1], generator))
    readings = [task.read(x, draw) for x in states]
    laws = filtered(problem.prior, MOTION, lambda law, z: model.posterior(law, *z), readings)
    assert len(laws) == 5
    for law, x in zip(laws, states, strict=True):
        assert law.means.shape == (3, 4, 4)
        assert torch.isfinite(law.log_prob(x.float())).all()


def test_missing_kinds_and_other_dimensions_are_refused(model, inputs, generator):
    with pytest.raises(ValueError, match="this model takes 2 kinds of observation, not 1"):
        model(*inputs[:2])
    with pytest.raises(ValueError, match="the prior is 1-dimensional and this model's answers are 2-dimensional"):
        model.posterior(ConjugateMixtures(2).sample(5, Draw(generator, torch.float32)), *inputs[1:])
    variance = zoo.build(SLUG, "variance", **SMALL)
    with pytest.raises(ValueError, match=r"the prior must be \[batch parameter=2\], not \[5, 3\]"):
        variance(torch.zeros(5, 3), torch.zeros(5, 1, 1))


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"n_heads": 5}, "d_model=32 is not divisible by n_heads=5"),
        ({"d_mlp": 0}, "every size must be at least 1"),
        ({"observations": ()}, "there must be a kind of observation"),
        ({"n_components": 3}, "n_components and parameters go together"),
    ],
)
def test_bad_sizes_are_refused(sizes, words, untyped):
    with pytest.raises(ValueError, match=words):
        zoo.build(SLUG, **sizes)

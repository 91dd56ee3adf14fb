"""σReparam (Zhai et al. 2023): its checks, its published sizes, its claim."""

import pytest
import torch
from torch import nn

from microtome.lab import zoo
from microtome.lab.train import TrainConfig, optimizer
from microtome.lab.zoo.norms.sigma_reparam import SigmaReparam, fold, reparametrise
from microtome.theory import claims


def layer(kind: str, gamma: str = "spectral") -> nn.Module:
    generator = torch.Generator().manual_seed(4)
    with torch.random.fork_rng():
        made = nn.Linear(6, 10) if kind == "linear" else nn.Conv2d(3, 8, 4, stride=4)
    with torch.no_grad():
        made.weight.normal_(0, 0.3, generator=generator)
        made.bias.normal_(0, 0.3, generator=generator)
    reparametrise(made, gamma)
    return made.double()


def input_for(kind: str, generator: torch.Generator) -> torch.Tensor:
    shape = (5, 6) if kind == "linear" else (2, 3, 8, 8)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


KINDS = pytest.mark.parametrize("kind", ["linear", "conv"])


@KINDS
def test_spectral_norm_is_gamma_after_many_forwards(kind, generator):
    module, x = layer(kind), input_for(kind, generator)
    module.train()
    with torch.no_grad():
        module.parametrizations.weight.original += 0.2 * torch.randn(
            module.weight.shape, generator=generator, dtype=torch.float64
        )
        module.parametrizations.weight[0].gamma.fill_(-1.7)
        for _ in range(300):
            module(x)
    assert torch.linalg.matrix_norm(module.weight.flatten(1), 2).item() == pytest.approx(1.7, abs=1e-5)


@KINDS
@pytest.mark.parametrize("factor", [1e-3, 7.0])
def test_scaling_the_weight_leaves_the_output(kind, factor, generator):
    module, x = layer(kind).eval(), input_for(kind, generator)
    before = module(x)
    with torch.no_grad():
        module.parametrizations.weight.original *= factor
    torch.testing.assert_close(module(x), before, atol=1e-12, rtol=1e-10)


@KINDS
@pytest.mark.parametrize("training", [True, False])
def test_the_gradient_is_orthogonal_to_the_weight_and_gamma_s_is_the_projection(kind, training, generator):
    module, x = layer(kind).train(training), input_for(kind, generator)
    used = module.weight.detach().clone()
    out = module(x)
    upstream = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    (out * upstream).sum().backward()
    original = module.parametrizations.weight.original
    assert abs((original.grad * original).sum().item()) < 1e-6
    assert original.grad.abs().max() > 1e-3

    plain = nn.functional.linear if kind == "linear" else nn.functional.conv2d
    weight = used.requires_grad_()
    options = {} if kind == "linear" else {"stride": 4}
    (plain(x, weight, module.bias.detach(), **options) * upstream).sum().backward()
    sigma = torch.linalg.matrix_norm(original.detach().flatten(1), 2)
    wanted = (weight.grad * original.detach()).sum() / sigma
    torch.testing.assert_close(module.parametrizations.weight[0].gamma.grad, wanted, atol=1e-6, rtol=1e-6)


def test_a_detached_sigma_would_lose_orthogonality(generator):
    """The control of the test above: the same weight divided by a constant."""
    weight = torch.randn(4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    sigma = torch.linalg.matrix_norm(weight, 2).detach()
    (weight / sigma * torch.randn(4, 3, generator=generator, dtype=torch.float64)).sum().backward()
    assert abs((weight.grad * weight).sum().item()) > 1e-2


@KINDS
def test_vision_start_uses_the_weight_as_it_is(kind):
    module = layer(kind)
    torch.testing.assert_close(module.weight, module.parametrizations.weight.original, atol=1e-7, rtol=1e-6)


def test_speech_start_has_spectral_norm_one():
    module = layer("linear", gamma="one")
    assert torch.linalg.matrix_norm(module.weight, 2).item() == pytest.approx(1, abs=1e-6)


@KINDS
def test_evaluation_leaves_u_and_training_moves_it_once_a_forward(kind, generator):
    module, x = layer(kind), input_for(kind, generator)
    with torch.no_grad():
        module.parametrizations.weight.original += torch.randn(module.weight.shape, generator=generator)
    sigma: SigmaReparam = module.parametrizations.weight[0]
    before = sigma.u.clone()
    module.eval()(x)
    assert torch.equal(sigma.u, before)
    module.train()
    _ = module.weight
    assert torch.equal(sigma.u, before), "reading the weight must not move it either"
    matrix = module.parametrizations.weight.original.detach().flatten(1)
    v = nn.functional.normalize(matrix @ before, dim=0)
    module(x)
    torch.testing.assert_close(sigma.u, nn.functional.normalize(matrix.T @ v, dim=0))


def test_folding_keeps_the_function():
    model = zoo.sequence(d_vocab=7, norm="sigma_reparam", d_model=16, n_heads=2, n_ctx=8)
    tokens = torch.tensor([[1, 5, 2, 0]])
    before = model(tokens)
    fold(model)
    torch.testing.assert_close(model(tokens), before)
    assert not any("parametrizations" in name for name in model.state_dict())


def test_gamma_gets_no_weight_decay():
    model = zoo.sequence(d_vocab=7, norm="sigma_reparam", d_model=16, n_heads=2, n_layers=1)
    groups = optimizer.build(model, TrainConfig(steps=1, optimizer="adamw", weight_decay=0.1)).param_groups
    decayed = {name: group["weight_decay"] for group in groups for name in group["param_names"]}
    assert {name for name, decay in decayed.items() if decay == 0} == {n for n in decayed if n.endswith(".gamma")}
    assert set(decayed) == {name for name, _ in model.named_parameters()}


def test_layernorm_may_stay():
    model = zoo.sequence(
        d_vocab=7,
        norm={"name": "sigma_reparam", "keep": {"name": "layernorm", "placement": "post"}},
        d_model=16,
        n_heads=2,
    )
    assert model.spec.norm.placement == "post"
    assert "blocks.0.ln1.weight" in model.state_dict()


@pytest.mark.parametrize(
    ("variant", "plain", "reparametrised"), [("vit_tiny", 5_524_416, 5_514_865), ("vit_small", 21_665_664, 21_646_513)]
)
def test_published_vision_transformers_have_the_published_parameters(variant, plain, reparametrised):
    for normed, wanted in ((True, plain), (False, reparametrised)):
        model = zoo.build("sigma_reparam", variant, normed=normed)
        assert sum(p.numel() for p in model.parameters()) == wanted
    assert sum(name.endswith("gamma") for name, _ in model.named_parameters()) == 49


def test_the_reparametrised_vision_transformer_starts_as_the_plain_one_without_norms(generator):
    options = {"stem": {"name": "grid", "image_size": 32, "patch": 16, "n_classes": 5}, "d_model": 32, "n_heads": 2}
    ours, plain = zoo.sequence(norm="sigma_reparam", **options), zoo.sequence(norm="none", **options)
    images = torch.randn(2, 3, 32, 32, generator=generator)
    torch.testing.assert_close(ours(images), plain(images), atol=1e-5, rtol=1e-4)


@pytest.mark.usefixtures("untyped")
def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="gamma starts as 'spectral' or 'one'"):
        zoo.sequence(d_vocab=3, norm={"name": "sigma_reparam", "gamma": "two"})
    with pytest.raises(ValueError, match="a weight that is zero has no direction"):
        SigmaReparam(torch.zeros(3, 2), "spectral")


def test_the_claim_holds_at_the_quick_budget():
    evidence = claims.load("sigma_reparam").run(budget="quick", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()


@pytest.mark.slow
def test_the_claim_holds_at_the_full_budget():
    evidence = claims.load("sigma_reparam").run(budget="full", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()

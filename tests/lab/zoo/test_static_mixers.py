"""Mixers whose matrix no query makes: the published formulas, entry by entry, and how they treat length and padding."""

import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import circulant, dft, toeplitz

from microtome.lab import zoo

SIZES = {"d_vocab": 11, "d_model": 12, "n_heads": 2, "n_layers": 1, "n_ctx": 20}


def build(mixer, causal=False, **sizes):
    model = zoo.sequence(mixer=mixer, causal=causal, position="none", feedforward="none", **{**SIZES, **sizes})
    return model.double()


def seen(model, generator, n=20, mask=None):
    """The mixer, its input, context and output, and its hook_z."""
    kept, mixer = {}, model.blocks[0].mixing
    before = mixer.register_forward_pre_hook(lambda _, given: kept.update(x=given[0], context=given[1]))
    after = mixer.register_forward_hook(lambda _, given, out: kept.update(out=out))
    tokens = torch.randint(11, (3, n), generator=generator)
    _, cache = model.run_with_cache(tokens, mask=mask)
    before.remove()
    after.remove()
    return mixer, kept["x"], kept["context"], kept["out"].detach(), cache[f"blocks.0.{model.blocks[0].slot}.hook_z"]


def fourier(n):
    return torch.from_numpy(dft(n))


def test_fnet_is_the_real_part_after_both_fourier_matrices(generator):
    _, x, _, out, _ = seen(build("fnet"), generator)
    both = (fourier(20) @ x.to(torch.complex128) @ fourier(12)).real
    torch.testing.assert_close(out, both, atol=1e-10, rtol=0)
    between = (fourier(20) @ (x.to(torch.complex128) @ fourier(12)).real.to(torch.complex128)).real
    assert (out - between).abs().max() > 1e-2


def test_fnet_is_that_of_transformers(generator):
    from transformers import FNetConfig
    from transformers.models.fnet.modeling_fnet import FNetBasicFourierTransform

    _, x, _, out, _ = seen(build("fnet"), generator)
    theirs = FNetBasicFourierTransform(FNetConfig(hidden_size=12, use_tpu_fourier_optimizations=False))
    torch.testing.assert_close(out, theirs(x)[0], atol=1e-10, rtol=0)


def test_fnet_has_nothing_to_learn_and_transforms_real_positions_only(generator):
    model = build("fnet")
    assert not list(model.blocks[0].mixing.parameters())
    mask = torch.ones(3, 20, dtype=torch.bool)
    mask[0, 13:] = False
    mask[1, 2:5] = False
    _, x, _, out, _ = seen(model, generator, mask=mask)
    for example in range(3):
        real = x[example, mask[example]].to(torch.complex128)
        wanted = (fourier(len(real)) @ real @ fourier(12)).real
        torch.testing.assert_close(out[example, mask[example]], wanted, atol=1e-10, rtol=0)


@pytest.mark.parametrize("n", [1, 13, 20])
def test_mlp_mixer_is_its_formula_on_the_first_positions(n, generator):
    mixer, x, _, out, _ = seen(build({"name": "mlp_mixer", "d_token": 7}), generator, n)
    w1, w2 = mixer.w1.weight[:, :n], mixer.w2.weight[:n]
    assert w1.shape == (7, n)
    torch.testing.assert_close(out, torch.einsum("is,bsc->bic", w2, F.gelu(w1 @ x)).detach(), atol=1e-12, rtol=0)


def test_mlp_mixer_s_matrix_has_seen_the_values(generator):
    """Its matrix reproduces this input, and not a multiple of it: there is no linear M."""
    mixer, x, context, _, _ = seen(build("mlp_mixer"), generator)
    matrix = mixer.effective_attention(x, context).matrix
    for scale, same in ((1.0, True), (-2.0, False)):
        z = (matrix @ (scale * x).mT[..., None])[..., 0].mT
        assert ((z - mixer(scale * x, context)).abs().max() < 1e-10) == same


@pytest.mark.parametrize("causal", [False, True])
def test_gmlp_is_its_formula(causal, generator):
    mixer, x, _, out, z = seen(build("gmlp", causal), generator, n=17)
    u, v = F.gelu(mixer.in_(x)).chunk(2, dim=-1)
    v = F.layer_norm(v, (36,))
    w = mixer.w[:17, :17]
    w = w.tril() if causal else w
    torch.testing.assert_close(z[:, :, 0], (w @ v).detach(), atol=1e-12, rtol=0)
    wanted = mixer.o(u * (w @ v + mixer.b[:17, None]))
    torch.testing.assert_close(out, wanted.detach(), atol=1e-12, rtol=0)


def test_gmlp_starts_as_a_feed_forward(generator):
    mixer, x, _, out, _ = seen(build("gmlp"), generator)
    u = F.gelu(mixer.in_(x)).chunk(2, dim=-1)[0]
    torch.testing.assert_close(out, mixer.o(u).detach(), atol=2e-3, rtol=0)


@pytest.mark.parametrize("width", [3, 20, 40])
@pytest.mark.parametrize("causal", [False, True])
def test_convolution_is_scipy_s_toeplitz_matrix(width, causal, generator):
    """Width 3 runs term by term, 20 and 40 by Fourier transform."""
    mixer, x, context, _, z = seen(build({"name": "convolution", "width": width}, causal), generator)
    v = x.detach()
    w = mixer.w.detach()
    reach = min(width, 20)
    for channel in range(12):
        back, ahead = x.new_zeros(20), x.new_zeros(20)
        back[:reach] = w[channel, width - reach : width].flip(0)
        ahead[0] = back[0]
        if not causal:
            ahead[:reach] = w[channel, width - 1 : width - 1 + reach]
        matrix = torch.from_numpy(toeplitz(back, ahead))
        torch.testing.assert_close(z.flatten(2)[..., channel], v[..., channel] @ matrix.T, atol=1e-10, rtol=0)
        effective = mixer.effective_attention(x, context).matrix[0, channel]
        torch.testing.assert_close(effective.detach(), matrix, atol=1e-10, rtol=0)


def test_the_circulant_around_a_toeplitz_matrix_gives_the_fourier_path(generator):
    mixer, x, _, _, z = seen(build("convolution"), generator)
    table = mixer.table(20).detach()
    for channel in range(12):
        # A column of the 39 × 39 circulant: lags 0 … 19, then −19 … −1.
        column = torch.cat([table[channel, :20].flip(0), table[channel, 20:].flip(0)])
        matrix = torch.from_numpy(circulant(column.numpy()))[:20, :20]
        torch.testing.assert_close(z.flatten(2)[..., channel], x[..., channel] @ matrix.T, atol=1e-10, rtol=0)


def test_a_convolution_takes_inputs_longer_than_n_ctx(generator):
    model = build({"name": "convolution", "width": 3})
    assert model(torch.randint(11, (1, 50), generator=generator)).shape == (1, 50, 11)


@pytest.mark.parametrize("mixer", ["gmlp", "mlp_mixer"])
def test_learned_positions_bound_the_length(mixer, generator):
    with pytest.raises(ValueError, match="21 positions; this model takes at most 20"):
        build(mixer)(torch.randint(11, (1, 21), generator=generator))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"name": "gmlp", "d_gate": 0}, "d_gate must be at least 1, not 0"),
        ({"name": "mlp_mixer", "d_token": 0}, "d_token must be at least 1, not 0"),
        ({"name": "convolution", "width": 0}, "width must be at least 1, not 0"),
    ],
)
def test_sizes_below_one_are_refused(part, message):
    with pytest.raises(ValueError, match=message):
        build(part)


@pytest.mark.parametrize("mixer", ["fnet", "mlp_mixer"])
def test_what_sees_the_whole_input_cannot_be_causal(mixer):
    with pytest.raises(ValueError, match="needs causal=False"):
        build(mixer, causal=True)

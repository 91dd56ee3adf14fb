"""LMUFormer (Liu et al. 2024): its checks on the zoo's own models, plain and spiking, its sizes, its claim."""

import pytest
import torch

from microtome.kernels import legendre_memory
from microtome.lab import zoo
from microtome.lab.zoo.lmuformer import lmuformer
from microtome.lab.zoo.lmuformer_stream import FrameStream
from microtome.lab.zoo.norms._batch import batch_norms
from microtome.lab.zoo.spiking import ALPHA, LIF
from microtome.lab.zoo.stems.lmuformer import LOOKAHEAD
from microtome.theory import claims

KINDS = pytest.mark.parametrize("spiking", [False, True], ids=["plain", "spiking"])


def model(spiking=False, *, n_layers=2, **sizes):
    """A small LMUFormer in float64 with statistics of some batches, so that neurons fire."""
    sizes = {"dim": 6, "n_classes": 4, "d_model": 16, "d_memory": 24, "n_ctx": 32, **sizes}
    built = lmuformer(spiking=spiking, n_layers=n_layers, **sizes).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for norm in batch_norms(built):
            norm.bias.normal_(0.5, 0.3, generator=generator)
            norm.momentum = 0.5
        built.train()
        for _ in range(20):
            built(draw(generator, 24, batch=8, dim=sizes["dim"]))
    return built.eval()


def draw(generator, n, batch=2, dim=6):
    return 2 * torch.randn(batch, n, dim, generator=generator, dtype=torch.float64)


@KINDS
@pytest.mark.parametrize("n", [1, 3, 5, 6, 20])
def test_the_stream_lags_five_frames_and_gives_the_logits_of_every_prefix(spiking, n, generator):
    built, frames = model(spiking), draw(generator, n)
    stream = FrameStream(built, 2)
    pushed = [stream.push(frame) for frame in frames.unbind(1)]
    assert [logits is None for logits in pushed] == [t < LOOKAHEAD for t in range(n)]
    rest = stream.finish()
    assert len(rest) == min(n, LOOKAHEAD)
    found = torch.stack([logits for logits in pushed if logits is not None] + rest, dim=1)
    torch.testing.assert_close(found, built.prefix_logits(frames), atol=1e-11, rtol=0)
    torch.testing.assert_close(found[:, -1], built(frames), atol=1e-11, rtol=0)


@KINDS
def test_the_head_of_the_running_mean_is_the_mean_of_the_head_s_logits(spiking, generator):
    built, frames = model(spiking), draw(generator, 20)
    torch.testing.assert_close(built.prefix_logits(frames)[:, -1], built(frames), atol=1e-12, rtol=0)


@KINDS
def test_a_prefix_is_untouched_by_frames_more_than_five_ahead_and_touched_by_the_fifth(spiking, generator):
    built, frames = model(spiking, n_layers=1), draw(generator, 24, batch=8)
    changed = frames.clone()
    changed[:, 15:] = draw(generator, 9, batch=8)
    before, after = built.prefix_logits(frames), built.prefix_logits(changed)
    differs = (before != after).any(0).any(-1)
    assert not differs[: 15 - LOOKAHEAD].any()
    assert differs[15 - LOOKAHEAD if not spiking else 15 :].all()


def test_the_parallel_memory_is_the_recurrence_and_its_spectral_radius_is_below_one(generator):
    layer = model().blocks[0].mixer
    x = torch.randn(2, 300, 16, generator=generator, dtype=torch.float64)
    u = torch.relu(layer.u(x))[..., 0]
    wanted = legendre_memory.reference(u, layer.memory.a_bar, layer.memory.b_bar)
    for length in (100, 300):
        torch.testing.assert_close(layer.memory(u[:, :length]), wanted[:, :length], atol=1e-5, rtol=0)
    assert torch.linalg.eigvals(layer.memory.a_bar).abs().max() < 1


@KINDS
def test_the_memory_is_fixed_and_everything_else_learns(spiking, generator):
    built = model(spiking).train()
    system = [b.clone() for b in built.blocks[0].mixer.memory.buffers()]
    built(draw(generator, 20, batch=8)).square().mean().backward()
    memory = built.blocks[0].mixer.memory
    assert not list(memory.parameters())
    assert all(not b.requires_grad and torch.equal(b, was) for b, was in zip(memory.buffers(), system, strict=True))
    for name, parameter in built.named_parameters():
        # A bias in front of a batch norm is taken away again.
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0 or name.endswith(".bias"), name


def test_changing_precision_keeps_the_digits_of_the_memory():
    exact, _ = legendre_memory.system(24, 32.0)
    memory = model().blocks[0].mixer.memory
    assert torch.equal(memory.a_bar, exact)
    torch.testing.assert_close(memory.float().a_bar, exact.float(), atol=0, rtol=0)
    assert torch.equal(memory.double().a_bar, exact)


def test_the_input_of_the_memory_is_one_number_for_all_channels(generator):
    built, frames = model(n_layers=1), draw(generator, 20)
    _, cache = built.run_with_cache(frames)
    assert cache["blocks.0.mixer.hook_v"].shape == (2, 20, 1, 1)
    assert cache["blocks.0.mixer.hook_z"].shape == (2, 20, 1, 24)


def test_spikes_are_zero_or_one_everywhere_and_the_memory_is_real(generator):
    built, frames = model(spiking=True), draw(generator, 24)
    _, cache = built.run_with_cache(frames)
    spikes = {name: value for name, value in cache.items() if name.endswith("hook_spikes")}
    assert len(spikes) == 4 + 2 * (4 + 2) + 1
    for name, value in spikes.items():
        assert ((value == 0) | (value == 1)).all(), name
    assert 0.02 < torch.stack([value.mean() for value in spikes.values()]).mean() < 0.98
    memory = cache["blocks.0.mixer.hook_z"]
    assert ((memory != 0) & (memory != 1)).any()


def test_neurons_leak_fire_and_reset_along_the_sequence():
    inputs = torch.tensor([0.0, 1.2, 1.2, 3.0, 0.5, 2.5])
    spikes, v, wanted = [], 0.0, []
    for x in inputs.tolist():
        v = v + (x - v) / 2
        wanted.append(float(v >= 1.0))
        v = 0.0 if v >= 1.0 else v
    spikes = LIF()(inputs[None, :, None])[0, :, 0]
    assert spikes.tolist() == wanted
    assert 0 < sum(wanted) < len(wanted)


def test_the_gradient_of_a_spike_is_the_sigmoid_s_and_none_comes_through_the_reset():
    x = torch.tensor([[[1.4], [3.0], [0.7]]], dtype=torch.float64, requires_grad=True)
    spikes = LIF()(x)
    assert spikes.flatten().tolist() == [0.0, 1.0, 0.0]
    (gradient,) = torch.autograd.grad(spikes[0, 2, 0], x)

    def slope(y):
        s = torch.sigmoid(torch.tensor(ALPHA * y, dtype=torch.float64)).item()
        return ALPHA * s * (1 - s)

    # After the spike at 1 the potential is 0, whatever came before; the reset's own path is cut.
    assert gradient.flatten().tolist() == pytest.approx([0.0, 0.0, slope(0.35 - 1) / 2], abs=1e-12)


def test_published_sizes():
    def count(variant):
        return sum(p.numel() for p in zoo.build("lmuformer", variant).parameters())

    assert count("speech_commands") == 1_621_796
    built = zoo.build("lmuformer", "speech_commands_spiking")
    assert built.blocks[0].mixer.memory.b_bar.shape == (512,)
    digits = zoo.build("lmuformer", "psmnist")
    assert (digits.h.out_features, digits.memory.b_bar.shape, digits.dropout.p) == (346, (468,), 0.4)
    assert digits(torch.zeros(1, 784)).shape == (1, 10)


@pytest.mark.usefixtures("untyped")
def test_bad_inputs_are_refused(generator):
    built = model()
    with pytest.raises(ValueError, match=r"frames must be \[batch pos 6\], at least one"):
        built(draw(generator, 4, dim=5))
    with pytest.raises(ValueError, match=r"frames must be \[batch pos 6\], at least one"):
        built(draw(generator, 0))
    with pytest.raises(ValueError, match="an infinity or a NaN"):
        built(draw(generator, 4) * float("nan"))
    with pytest.raises(ValueError, match="a stream ends once, after one frame at least"):
        FrameStream(built).finish()
    stream = FrameStream(built)
    with pytest.raises(ValueError, match=r"a frame must be \[1, 6\]"):
        stream.push(torch.zeros(2, 6))
    stream.push(torch.zeros(1, 6).double())
    stream.finish()
    with pytest.raises(ValueError, match="the stream has ended"):
        stream.push(torch.zeros(1, 6).double())
    with pytest.raises(ValueError, match="has no step"):
        FrameStream(zoo.sequence(stem={"name": "lmuformer", "dim": 2, "n_classes": 2}, mixer="fnet", causal=False))
    with pytest.raises(ValueError, match=r"with 1 … 784 positions"):
        zoo.build("lmuformer", "psmnist")(torch.zeros(1, 785))
    for options in ({"threshold": 0.0}, {"tau": 0.5}):
        with pytest.raises(ValueError, match="needs threshold > 0 and tau >= 1"):
            LIF(**options)
    with pytest.raises(ValueError, match="dim and n_classes must be at least 1"):
        lmuformer(dim=0)


def test_the_claim_s_untrained_part_at_the_quick_budget():
    evidence = claims.load("lmuformer").run(budget="quick", seed=0)
    assert [part.verdict for part in evidence.parts] == ["holds", "inconclusive", "inconclusive"], evidence.to_json()


@pytest.mark.slow
def test_the_claim_at_the_full_budget():
    """Without its memory the model beats the memory alone too: that part is vacuous, the others hold."""
    evidence = claims.load("lmuformer").run(budget="full", seed=0)
    verdicts = {part.statement.name: part.verdict for part in evidence.parts}
    assert verdicts.pop("convolutions and channel mixing around the memory") == "vacuous", evidence.to_json()
    assert set(verdicts.values()) == {"holds"}, evidence.to_json()
    assert evidence.verdict == "vacuous"

"""Distillation and replaced-token detection: the formulas, where gradients go, and that both train."""

import pytest
import torch
import torch.nn.functional as F

from microtome.lab import train, zoo
from microtome.lab.tasks import RepeatedBlock
from microtome.lab.train import TrainConfig
from microtome.lab.train.distillation import Distillation, soft_loss
from microtome.lab.train.electra import Electra, ReplacedTokenDetection

TASK = RepeatedBlock(vocab=6, block=4, repeats=3)
SIZES = {"d_model": 16, "n_layers": 1, "n_heads": 2, "n_ctx": 12}


def model(seed=0, d_vocab=6, **sizes):
    return zoo.sequence(d_vocab=d_vocab, seed=seed, **{**SIZES, **sizes})


def test_equal_logits_have_no_soft_loss_and_no_gradient(generator):
    logits = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    loss = soft_loss(logits, logits.detach(), 3.0)
    torch.testing.assert_close(loss, torch.zeros(3, 5, dtype=torch.float64), atol=1e-12, rtol=0)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_soft_loss_is_torch_s_divergence_times_t_squared(temperature, generator):
    student, teacher = (torch.randn(9, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    wanted = temperature**2 * F.kl_div(
        (student / temperature).log_softmax(-1), (teacher / temperature).softmax(-1), reduction="none"
    ).sum(-1)
    torch.testing.assert_close(soft_loss(student, teacher, temperature), wanted)


def test_the_soft_gradient_keeps_its_size_as_the_temperature_grows(generator):
    """At high T it becomes the difference of the centred logits over the number of labels."""
    student = torch.randn(9, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(9, 7, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(soft_loss(student, teacher, 1e4).sum(), student)
    difference = student.detach() - teacher
    torch.testing.assert_close(gradient, (difference - difference.mean(-1, keepdim=True)) / 7, atol=1e-3, rtol=0)


def test_a_share_of_zero_is_token_prediction_and_the_teacher_gets_no_gradient(generator):
    teacher, student = model(1), model(2)
    plain, distilled = train.TokenPrediction(TASK, 4), Distillation(TASK, 4, teacher, share=0.0)
    batch = plain.batch(0, generator)
    torch.testing.assert_close(distilled.loss(student, batch), plain.loss(student, batch))
    Distillation(TASK, 4, teacher, share=1.0).loss(student, batch).backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())


def test_a_student_learns_from_its_teacher_alone(generator):
    teacher, student = model(1, n_layers=2), model(2)
    objective = Distillation(TASK, 16, teacher, share=1.0)
    batch = objective.batch(0, generator)
    before = objective.loss(student, batch).item()
    train.fit(student, objective, TrainConfig(steps=60, lr=1e-2, checkpoint_every=60))
    assert objective.loss(student, batch).item() < before / 2


def electra():
    return Electra(model(1, 7, causal=False, d_model=8), model(2, 6, causal=False))


def test_replaced_token_detection_is_its_formula_over_all_positions(generator):
    objective, both = ReplacedTokenDetection(TASK, 8), electra()
    batch = objective.batch(0, generator)
    tokens, masked, _ = batch.inputs
    logits, replaced, truth = both(*batch.inputs)
    assert masked.any(1).all()
    assert not truth[~masked].any()
    assert truth.any()
    mlm = F.cross_entropy(logits[masked], tokens[masked])
    disc = F.binary_cross_entropy_with_logits(replaced, truth.float())
    torch.testing.assert_close(objective.loss(both, batch), mlm + 50 * disc)


def test_samples_follow_the_generator_s_law(generator):
    """Of 4,000 masked places each token's share is within 5 standard deviations: false alarms below 1e-5 over six."""
    both = electra()
    tokens = torch.zeros(4000, 1, dtype=torch.long)
    masked = torch.ones_like(tokens, dtype=torch.bool)
    noise = torch.rand(4000, 1, generator=generator)
    kept = {}
    handle = both.discriminator.register_forward_pre_hook(lambda _, given: kept.update(tokens=given[0]))
    logits, _, truth = both(tokens, masked, noise)
    handle.remove()
    p = logits[0, 0].softmax(-1)
    share = torch.bincount(kept["tokens"][:, 0], minlength=6) / 4000
    assert ((share - p).abs() < 5 * (p * (1 - p) / 4000).sqrt()).all()
    assert torch.equal(truth, kept["tokens"] != 0), "a sample that equals the original is an original"


def test_no_gradient_goes_through_the_samples(generator):
    objective, both = ReplacedTokenDetection(TASK, 8), electra()
    _, replaced, _ = both(*objective.batch(0, generator).inputs)
    replaced.square().sum().backward()
    assert all(p.grad is None for p in both.generator.parameters())
    assert any(p.grad is not None for p in both.discriminator.parameters())


def test_an_electra_trains(generator):
    objective, both = ReplacedTokenDetection(TASK, 16), electra()
    batch = objective.batch(0, generator)
    before = objective.loss(both, batch).item()
    train.fit(both, objective, TrainConfig(steps=40, lr=1e-2, checkpoint_every=40))
    assert objective.loss(both, batch).item() < before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Distillation(TASK, 4, model(), share=1.5), r"share must lie in \[0, 1\], not 1.5"),
        (lambda: Distillation(TASK, 4, model(), temperature=0.0), "temperature must be positive"),
        (lambda: ReplacedTokenDetection(TASK, 4, share=0.0), "share must lie between 0 and 1"),
        (lambda: ReplacedTokenDetection(TASK, 4, weight=-1.0), "weight must be finite and not negative"),
    ],
)
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_teacher_of_another_vocabulary_is_refused(generator):
    objective = Distillation(TASK, 4, model(1, d_vocab=9))
    with pytest.raises(ValueError, match="student and teacher must give logits"):
        objective.loss(model(), objective.batch(0, generator))

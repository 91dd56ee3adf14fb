"""Choosing: the argmax, the Gumbel relaxation and its limit, the temperature, gates."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from microtome.lab.rasp.learned.gates import Annealing, Gate, Gumbel, argmax
from microtome.lab.rasp.learned.training import sampling


def test_argmax_is_one_hot_and_takes_the_first_of_equals():
    chosen = argmax(torch.tensor([[1.0, 3.0, 2.0], [0.0, 5.0, 5.0], [7.0, 7.0, 7.0]]))
    assert chosen.tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0]]


@pytest.mark.global_rng
@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_a_sample_is_torch_s_gumbel_softmax(hard, generator):
    logits = torch.randn(50, 7, generator=generator)
    ours = Gumbel(0.7, torch.Generator().manual_seed(3), hard)(logits)
    torch.manual_seed(3)
    theirs = F.gumbel_softmax(logits, tau=0.7, hard=hard)
    torch.testing.assert_close(ours, theirs)


def test_samples_choose_with_the_probabilities_of_the_softmax(generator):
    """40,000 draws: each frequency is within 5 standard deviations (0.0125), false alarms below 3·6e-7."""
    logits = torch.tensor([0.0, 1.0, 2.0])
    drawn = Gumbel(1.0, generator, hard=True)(logits.expand(40_000, -1)).mean(0)
    assert (drawn - logits.softmax(-1)).abs().max() < 0.0125


@pytest.mark.parametrize("seed", range(4))
def test_as_the_temperature_falls_the_soft_forward_becomes_the_sampled_hard_one(seed, random_network, generator):
    model = random_network(seed, n_layers=2, n_cat_heads=2, n_num_heads=2, n_embeddings=seed % 2)
    tokens = torch.randint(1, 5, (8, 5), generator=generator)

    def forward(temperature: float, hard: bool) -> torch.Tensor:
        with sampling(model, Gumbel(temperature, torch.Generator().manual_seed(seed), hard)), torch.no_grad():
            return model(tokens)[..., 1:]

    wanted = forward(1.0, hard=True)
    gaps = [(forward(temperature, hard=False) - wanted).abs().max().item() for temperature in (1.0, 1e-7)]
    assert gaps[1] < 1e-6 < gaps[0]


@pytest.mark.parametrize(("per_epoch", "epochs"), [(1, 1), (4, 1), (1, 6), (4, 6)])
def test_the_temperature_falls_geometrically_over_epochs_and_within_them(per_epoch, epochs):
    temperatures = np.geomspace(3.0, 0.01, epochs)
    wanted = [
        tau
        for epoch in range(epochs)
        for tau in (
            np.geomspace(temperatures[epoch], temperatures[epoch + 1], per_epoch)
            if epoch < epochs - 1
            else [temperatures[epoch]] * per_epoch
        )
    ]
    found = [Annealing().at(step, per_epoch, epochs) for step in range(per_epoch * epochs)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_a_gate_mixes_variables_by_its_probabilities_and_reads_one_when_discrete(generator):
    gate = Gate((2, 3), 4, generator)
    variables = torch.randn(5, 6, 4, 7, generator=generator)
    mixed = gate(variables, lambda logits: logits.softmax(-1))
    torch.testing.assert_close(mixed, torch.einsum("rhv,bpvk->bprhk", gate.logits.softmax(-1), variables))
    read = gate(variables, argmax)
    for i in range(2):
        for j in range(3):
            assert torch.equal(read[:, :, i, j], variables[:, :, gate.chosen[i, j]])


def test_parameters_start_with_the_variances_of_the_paper(generator):
    """4,000 values: the standard deviation is within 6 %, 5 of its own deviations; false alarms below 1e-6."""
    assert Gate((200, 5), 4, generator).logits.std().item() == pytest.approx(4**-0.5, rel=0.06)


@pytest.mark.usefixtures("untyped")
def test_bad_temperatures_are_refused(generator):
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="temperature must be positive and finite"):
            Gumbel(temperature, generator)
    for start, end in ((1.0, 2.0), (1.0, 0.0), (float("inf"), 1.0), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match="temperatures must fall and stay positive"):
            Annealing(start, end)

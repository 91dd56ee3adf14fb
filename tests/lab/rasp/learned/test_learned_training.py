"""Training: epochs, noise at the step's temperature, resuming, and the discrete network that is left."""

import pytest
import torch
import torch.nn.functional as F

from microtome.lab.rasp.learned import transformer_programs as tp
from microtome.lab.rasp.learned.data import Examples, tensors
from microtome.lab.rasp.learned.gates import Annealing, argmax
from microtome.lab.rasp.learned.options import BOS, PAD
from microtome.lab.rasp.learned.training import Epochs, Relaxation, Training
from microtome.lab.train import Callback, TrainConfig
from microtome.lab.train import train as run_trainer


@pytest.fixture(scope="module")
def data():
    return tp.draw(tp.task("hist", vocab=5, max_length=4), 40)


@pytest.fixture
def model(data):
    return tp.build(data.options(1, 1, 1, 1, 1), seed=1)


def parameters(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_an_epoch_visits_every_sentence_once_in_a_new_order(data, model):
    objective = Epochs(data.train, model.options, Training(epochs=3, batch=7))
    n = -(-len(data.train) // 7)
    assert (objective.per_epoch, objective.steps) == (n, 3 * n)
    orders = []
    for epoch in range(3):
        batches = [objective.batch(n * epoch + i, torch.Generator()) for i in range(n)]
        orders.append(torch.cat([batch.inputs[0] for batch in batches]).tolist())
        assert sorted(orders[-1]) == sorted(objective.data.tokens.tolist())
    assert orders[0] != orders[1] != orders[2]


def test_the_loss_is_the_mean_over_sentences_of_the_mean_over_tags(data, model):
    objective = Epochs(data.train, model.options, Training(batch=8))
    batch = objective.batch(0, torch.Generator())
    logits = model(*batch.inputs).log_softmax(-1)
    wanted = torch.stack(
        [
            -torch.stack([row[i, target] for i, target in enumerate(targets) if target > 0]).mean()
            for row, targets in zip(logits, batch.targets, strict=True)
        ]
    ).mean()
    torch.testing.assert_close(objective.loss(model, batch), wanted)


def test_training_samples_at_the_step_s_temperature_and_leaves_the_network_discrete(data, model):
    objective = Epochs(data.train, model.options, Training(epochs=4, batch=20, annealing=Annealing(2.0, 0.5), seed=5))
    relaxation = Relaxation(model, objective)
    for step, temperature in ((0, 2.0), (objective.steps - 1, 0.5)):
        with relaxation.around_forward(step):
            assert model.sample.temperature == pytest.approx(temperature)
            first = model(objective.data.tokens)
        with relaxation.around_forward(step):
            assert torch.equal(model(objective.data.tokens), first), "the noise of a step depends on the step alone"
        assert model.sample is argmax
    with relaxation.around_forward(0):
        assert not torch.equal(model(objective.data.tokens), first)


def test_a_run_interrupted_and_resumed_ends_bit_identical(data, model, tmp_path):
    training, other = Training(epochs=6, batch=16), tp.build(model.options, seed=1)
    tp.train(model, data, tmp_path / "whole", training, progress=False)

    class Stop(Callback):
        name = "stop"

        def on_step_end(self, step, loss):
            if step == 6:
                raise KeyboardInterrupt

    objective = Epochs(data.train, other.options, training)
    config = TrainConfig(steps=objective.steps, lr=training.lr, seed=training.seed, checkpoint_every=4)
    callbacks = [Relaxation(other, objective), Stop()]
    with pytest.raises(KeyboardInterrupt):
        run_trainer(other, objective, config, tmp_path / "cut", callbacks=callbacks, progress=False)
    callbacks.pop()
    run_trainer(other, objective, config, tmp_path / "cut", callbacks=callbacks, resume=True, progress=False)
    for name, wanted in parameters(model).items():
        assert torch.equal(parameters(other)[name], wanted), name


def test_a_run_records_its_temperature_and_moves_what_can_move(data, model, tmp_path):
    before = parameters(model)
    run = tp.train(model, data, tmp_path / "run", Training(epochs=5, batch=40), progress=False)
    assert run.status == "finished"
    assert set(run.metrics()["metric"]) >= {"loss", "temperature"}
    still = {name for name, after in parameters(model).items() if torch.equal(before[name], after)}
    assert still == {"blocks.0.num_attn.value_gate.logits"}, "it has one variable to choose from"
    assert not model.training


def test_accuracy_counts_tags_only_and_unseen_ones_as_missed(data, model):
    found = tensors(data.test, model.options)
    said = model(found.tokens).argmax(-1)
    hits = [s == t for s, t, a in zip(said.flatten(), found.targets.flatten(), found.asked.flatten(), strict=True) if a]
    assert tp.accuracy(model, data.test) == pytest.approx(sum(map(int, hits)) / len(hits))
    assert tp.accuracy(model, Examples(([BOS, "0"],), ([PAD, "many"],))) == 0
    perfect = model.predict(data.test.sentences)
    tags = tuple(
        [PAD if word == BOS else tag for word, tag in zip(s, p, strict=True)]
        for s, p in zip(data.test.sentences, perfect, strict=True)
    )
    assert tp.accuracy(model, Examples(data.test.sentences, tags)) == 1


def test_the_masked_class_leaves_the_loss_finite(data, model):
    objective = Epochs(data.train, model.options, Training())
    loss = objective.loss(model, objective.batch(0, torch.Generator()))
    assert torch.isfinite(loss)
    assert F.softmax(model(objective.data.tokens), -1)[..., 0].max() == 0


@pytest.mark.usefixtures("untyped")
def test_bad_training_options_are_refused():
    for name in ("epochs", "batch"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
            Training(**{name: 0})

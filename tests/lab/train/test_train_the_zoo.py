"""The trainer with real tasks, real models and the exact answer."""

import math

import pytest
import torch

from microtome.lab import zoo
from microtome.lab.tasks import LinearRegression, RepeatedBlock
from microtome.lab.train import (
    Curriculum,
    InContextRegression,
    Ramp,
    TokenPrediction,
    TrainConfig,
    load,
    train,
)


def test_an_in_context_learner_nears_the_exact_answer(generator, tmp_path):
    """Of the distance from knowing nothing (ŷ = 0) to Bayes, at least half is gone after 300 small steps.

    4,000 fresh prompts of 8 points: the risks, of size 1 and below, have standard errors of about 0.03.
    """
    task = LinearRegression(dim=1)
    model = zoo.sequence(dim=1, d_model=16, n_layers=2, n_heads=2, n_ctx=16)
    config = TrainConfig(steps=300, lr=5e-3, warmup=0.1, schedule="cosine", clip=1.0)
    train(model, InContextRegression(task, batch=32, points=8), config, tmp_path / "run")
    prompt = task.sample(4000, 8, generator)
    nothing, exact, learned = (
        (mean - prompt.ys).square().mean().item()
        for mean in (
            torch.zeros_like(prompt.ys),
            task.bayes().predict(prompt.xs, prompt.ys).mean,
            load(tmp_path / "run").model.predict(prompt.xs, prompt.ys).mean,
        )
    )
    assert exact < learned < exact + 0.5 * (nothing - exact)


def test_a_token_model_learns_to_repeat(tmp_path):
    model = zoo.sequence(d_vocab=6, d_model=16, n_layers=2, n_heads=2, n_ctx=8)
    objective = TokenPrediction(RepeatedBlock(vocab=6, block=4, repeats=2), batch=32)
    config = TrainConfig(steps=250, lr=1e-2, warmup=0.1, schedule="linear")
    losses = train(model, objective, config, tmp_path / "run").metrics().filter(metric="loss")["value"]
    assert losses[0] == pytest.approx(math.log(6), abs=0.7)
    assert losses[-1] < 0.2 * math.log(6)


def test_a_learner_under_a_curriculum_resumes_exactly(crashes_after, crashed, tmp_path):
    def start(name, **options):
        model = zoo.sequence(dim=4, d_model=8, n_layers=2, n_heads=2, n_ctx=12, seed=1)
        curriculum = Curriculum(Ramp(1, 4, 1, 5), Ramp(2, 6, 1, 5))
        objective = InContextRegression(LinearRegression(dim=4), batch=4, points=6, curriculum=curriculum)
        return train(model, objective, TrainConfig(steps=30, checkpoint_every=6), tmp_path / name, **options)

    with pytest.raises(crashed):
        start("killed", callbacks=[crashes_after(16)])
    whole, resumed = start("whole"), start("killed", resume=True)
    tensors = whole.model.state_dict()
    assert all(torch.equal(t, tensors[name]) for name, t in resumed.model.state_dict().items())
    assert resumed.metrics().drop("time").equals(whole.metrics().drop("time"))

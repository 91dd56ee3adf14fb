"""Loading says what is missing."""

import pytest

from microtome.lab.train import TrainConfig, load, train


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(ValueError, match=r"holds no run: it has no run\.json"):
        load(tmp_path)


def test_a_run_without_a_checkpoint(learner, linear, crashes_after, crashed, tmp_path):
    with pytest.raises(crashed):
        train(learner(), linear(), TrainConfig(steps=9), tmp_path / "run", callbacks=[crashes_after(2)])
    with pytest.raises(ValueError, match="has written no checkpoint yet"):
        load(tmp_path / "run", learner())


def test_a_model_that_is_not_of_the_zoo_has_to_be_given(learner, linear, tmp_path):
    train(learner(), linear(), TrainConfig(steps=1), tmp_path / "run")
    with pytest.raises(ValueError, match=r"only models of the zoo are built from .* give a Learner"):
        load(tmp_path / "run")

"""Training states of interrupted runs load for the same run only."""

import zipfile
from dataclasses import asdict

import pytest
import torch

from models.checkpoint import (
    delete_training_state,
    load_model,
    load_training_state,
    save_model,
    save_training_state,
    training_state_path,
)
from tests.helpers.tiny import same_weights, tiny_model, tiny_set
from tests.models.saved_models import small_model
from utils.runtime.errors import UserError
from utils.train.recipe import Recipe
from utils.train.training import TrainingRun

pytestmark = pytest.mark.usefixtures("empty_folder")


ORIGIN = {"train_digest": "abc", "recipe": asdict(Recipe(2, 0.1, 5))}


def training_state():
    run = TrainingRun(tiny_model(dropout=0.2), tiny_set(12), tiny_set(4), Recipe(2, 0.01, 5))
    run.run(show=False)
    return run.state()


def test_a_training_state_loads():
    state = training_state()
    save_training_state("run", ORIGIN, state)
    loaded = load_training_state("run", ORIGIN)
    assert loaded.keys() == state.keys()
    assert same_weights(loaded["model"], state["model"])
    assert loaded["history"] == state["history"]
    assert torch.equal(loaded["order"], state["order"])
    delete_training_state("run")
    delete_training_state("run")
    assert load_training_state("run", ORIGIN) is None


def test_a_training_state_of_another_run_is_refused():
    save_training_state("run", ORIGIN, training_state())
    with pytest.raises(UserError, match=r"--resume: .* in epochs 2 \(not 3\): repeat"):
        load_training_state("run", ORIGIN | {"recipe": asdict(Recipe(3, 0.1, 5))})
    with pytest.raises(UserError, match=r"differs in the training images, .*epochs 2 \(not None\)"):
        load_training_state("run", {"train_digest": "x", "recipe": {}})


def test_an_altered_training_state_is_refused_and_one_without_digest_loads():
    state = training_state()
    save_training_state("run", ORIGIN, state)
    path = training_state_path("run")
    content = torch.load(path, weights_only=True)
    next(iter(content["state"]["model"].values())).view(-1)[0] += 1
    torch.save(content, path)
    with pytest.raises(UserError, match="run_resume.pt is damaged .*: start from scratch"):
        load_training_state("run", ORIGIN)
    del content["digest"]
    torch.save(content, path)
    assert load_training_state("run", ORIGIN)["history"] == state["history"]


def test_an_interrupt_while_reading_is_not_reported_as_damage(monkeypatch):
    """Closing a zip file within a member raises an error that would hide the interrupt."""
    save_training_state("run", ORIGIN, training_state())
    original_open, opened = zipfile.ZipFile.open, []

    def interrupted(archive, name, mode="r", **settings):
        part = original_open(archive, name, mode, **settings)
        if mode == "w":
            opened.append(part)
            raise KeyboardInterrupt
        return part

    monkeypatch.setattr(zipfile.ZipFile, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_training_state("run", ORIGIN)
    assert opened


def test_a_model_and_a_training_state_are_not_interchangeable():
    save_model("run_resume", small_model(), {})
    with pytest.raises(UserError, match="is not a training state"):
        load_training_state("run", ORIGIN)
    save_training_state("run", ORIGIN, training_state())
    with pytest.raises(UserError, match="run_resume.pt is not a model"):
        load_model("run_resume")

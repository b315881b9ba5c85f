"""Checkpoints load with the saved weights and record, and a failed save changes no file."""

import errno
import os

import pytest
import torch

from models.architectures import build_model, make_spec
from models.checkpoint import (
    load_model,
    model_path,
    save_model,
    weights_digest,
)
from tests.helpers.tiny import same_weights, tiny_set
from tests.models.saved_models import RECORD, small_model
from utils.runtime.errors import UserError
from utils.train.prediction import predict

pytestmark = pytest.mark.usefixtures("empty_folder")


def leftovers():
    return [path.name for path in model_path("any").parent.iterdir() if path.suffix != ".pt"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"channels": 3, "num_classes": 9},
        {"arch": "shufflenet_v2_x0_5"},
        {"arch": "resnet18", "input_size": 28, "stem": "full"},
        {"arch": "squeezenet1_1", "input_size": 8},
        {"arch": "densenet121", "input_size": 28},
    ],
)
def test_a_model_loads_with_its_record(changes):
    model = small_model(**changes)
    path = save_model("first_best", model, RECORD)
    assert path == model_path("first_best")
    loaded, record = load_model("first_best")
    assert same_weights(loaded, model)
    assert loaded.spec == model.spec
    assert {key: record[key] for key in RECORD} == RECORD
    assert record["model_id"] == "first_best"
    assert record["weights_digest"] == weights_digest(model.network.state_dict())
    assert record["versions"]["torch"] == str(torch.__version__)
    assert record["saved_at"].startswith("20")
    assert not leftovers()


def test_predictions_of_a_loaded_model_are_bitwise_identical():
    model, images = small_model(), tiny_set(9)
    save_model("first", model, {})
    assert torch.equal(predict(load_model("first")[0], images), predict(model, images))


def test_a_pretrained_model_keeps_its_pixel_statistics():
    spec = make_spec("resnet18", 4, 1, 28, pretrained=True)
    model = build_model(spec, seed=1, initial_weights=False)
    save_model("pretrained", model, {})
    loaded, _ = load_model("pretrained")
    assert loaded.spec.pretrained and torch.equal(loaded.mean, model.mean)


def test_saving_again_replaces_the_model():
    save_model("first", small_model(seed=1), {})
    save_model("first", small_model(seed=2), {})
    assert same_weights(load_model("first")[0], small_model(seed=2))


def test_different_weights_have_different_digests():
    weights = small_model().network.state_dict()
    digest = weights_digest(weights)
    assert digest == weights_digest(dict(reversed(weights.items())))
    name = next(name for name, part in weights.items() if part.ndim == 4)
    changed = weights[name].clone()
    changed.view(-1)[0] = torch.nextafter(changed.view(-1)[0], torch.tensor(9.0))
    for change in (changed, weights[name].flatten(), weights[name].double()):
        assert weights_digest(weights | {name: change}) != digest
    renamed = {key + "_" * (key == name): part for key, part in weights.items()}
    assert weights_digest(renamed) != digest


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_failed_save_leaves_the_old_model_unchanged(monkeypatch, broken):
    path = save_model("first", small_model(seed=1), RECORD)
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, broken, full_disk)
    with pytest.raises(UserError, match="cannot write .*first.pt: No space left on device"):
        save_model("first", small_model(seed=2), RECORD)
    assert path.read_bytes() == before
    with pytest.raises(UserError, match="No space left"):
        save_model("second", small_model(seed=2), RECORD)
    assert not model_path("second").exists()
    assert not leftovers()

"""Shadow models: only those that are needed are trained, by a method that is known and the same."""

from dataclasses import asdict, replace

import numpy as np
import pytest

import evaluation.shadows
from evaluation.metrics.lira import shadow_memberships
from evaluation.shadows import ShadowSetting, recorded_method, shadow_margins
from tests.helpers.methods import real_model
from tests.helpers.tiny import tiny_dataset, tiny_set
from unlearn.engine.method import Method
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.runtime.errors import UserError
from utils.train.recipe import Recipe

REQUEST = ForgetRequest((1,))
RECIPE = asdict(Recipe(epochs=1, lr=0.02, batch_size=20))
PLUGIN = {"file": "my_method.py", "sha256": 64 * "a"}


@pytest.fixture
def trainings(monkeypatch):
    """The arguments of each training of a shadow model before unlearning."""
    seen = []

    class Counted(evaluation.shadows.TrainingRun):
        def __init__(self, *arguments):
            seen.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(evaluation.shadows, "TrainingRun", Counted)
    return seen


@pytest.fixture
def added(monkeypatch):
    """Put methods into METHODS for one test."""

    def add(method_id, plugin=None):
        method = Method(method_id, method_id, print, None, "none", "test", "none", plugin=plugin)
        monkeypatch.setitem(METHODS, method_id, method)
        return method

    return add


def dataset_of():
    """With enough test images of the class to attack."""
    return replace(tiny_dataset(train=80), test=tiny_set(40, seed=2))


def record_of(method_id):
    settings = (METHODS[method_id].recipe and asdict(METHODS[method_id].recipe)) or RECIPE
    settings = settings | {"epochs": 1, "mask_thresh": None}
    return {"recipe": RECIPE, "selection": "best", "method": method_id, "settings": settings}


def margins_of(method_id):
    """(4, Q) margins of four shadow models."""
    record = record_of(method_id)
    setting = ShadowSetting.of(dataset_of(), REQUEST, real_model(), record, "test", 1)
    seen = shadow_memberships(4, len(setting.queries), 1)
    return np.stack([shadow_margins(setting, n, half, False) for n, half in enumerate(seen)])


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_an_attack_on_retrain_trains_no_model_that_retrain_replaces(trainings, monkeypatch):
    ours = margins_of("Retrain")
    assert not trainings
    for path in evaluation.shadows.SHADOW_FOLDER.glob("*/*.pt"):
        path.unlink()
    monkeypatch.setattr(evaluation.shadows, "RETRAIN", "no method")  # so the models are trained
    assert np.array_equal(margins_of("Retrain"), ours)
    assert len(trainings) == 4


def test_other_methods_share_the_trained_models(trainings):
    tuned = margins_of("FT")
    assert len(trainings) == 4
    ascended = margins_of("GA")
    assert len(trainings) == 4
    assert not np.array_equal(tuned, ascended)


def test_a_base_model_has_no_method():
    assert recorded_method({"kind": "base"}) is None


def test_the_method_of_a_record():
    assert recorded_method({"method": "RL_with_SalUn"}) is METHODS["RL_with_SalUn"]


def test_an_unknown_method_is_refused_before_any_training(trainings):
    record = record_of("FT") | {"method": "Newer"}
    says = "made by the method Newer, which this version does not have"
    with pytest.raises(UserError, match=says):
        ShadowSetting.of(tiny_dataset(), REQUEST, real_model(), record, "test", 1)
    assert not trainings


def test_a_method_that_is_given_again_by_the_same_file(added):
    mine = added("Mine", PLUGIN)
    assert recorded_method({"method": "Mine", "plugin": dict(PLUGIN)}) is mine


def test_a_plugin_that_is_not_given_is_named():
    record = {"method": "Mine", "plugin": PLUGIN}
    with pytest.raises(UserError, match="add --plugin with the path of my_method.py"):
        recorded_method(record)
    with pytest.raises(UserError, match="add --plugin with the path of my_method.py"):
        recorded_method(record | {"method": "FT"})


def test_a_plugin_with_other_content_is_refused(added):
    added("Mine", PLUGIN | {"file": "other.py", "sha256": 64 * "b"})
    says = r"SHA-256 aaaaaaaaaaaa\.\.\., and other.py has another: give --plugin the file"
    with pytest.raises(UserError, match=says):
        recorded_method({"method": "Mine", "plugin": PLUGIN})


def test_a_plugin_method_does_not_stand_in_for_a_method_of_a_newer_version(added):
    added("Newer", PLUGIN)
    with pytest.raises(UserError, match="which this version does not have"):
        recorded_method({"method": "Newer"})


def test_shadow_models_of_another_plugin_content_are_not_reused(added, trainings):
    margins = []
    for number in (1, 2):
        plugin = PLUGIN | {"sha256": 64 * str(number)}
        base = METHODS["FT" if number == 1 else "GA"]
        added("Mine", plugin)
        METHODS["Mine"] = replace(base, id="Mine", plugin=plugin)
        record = record_of("FT") | {"method": "Mine", "plugin": plugin}
        args = (dataset_of(), REQUEST, real_model(), record, "test", 1)
        setting = ShadowSetting.of(*args)
        seen = shadow_memberships(4, len(setting.queries), 1)
        margins.append(shadow_margins(setting, 0, seen[0], False))
    assert not np.array_equal(*margins)
    assert len(trainings) == 1

"""The ratios of a comparison are those of the measure, and its outputs are read one by one."""

import pytest
import torch

from evaluation.comparison import distances as module
from evaluation.comparison.distances import compute_distances
from evaluation.measure import SETS
from evaluation.metrics.ratio import leave_one_out, ratio_figures
from evaluation.outputs import LabelledLogits

IMAGES = {"forget": 12, "retain": 30, "test": 17}


def outputs(spread, *seeds, classes=4):
    """Outputs that differ among seeds by `spread`, and have a common part."""
    found = []
    for seed in seeds:
        sets = {}
        for place, (name, count) in enumerate(IMAGES.items()):
            common = torch.randn(count, classes, generator=torch.Generator().manual_seed(place))
            own = torch.randn(count, classes, generator=torch.Generator().manual_seed(seed))
            sets[name] = 2 * common + spread * own
        found.append(sets)
    return found


def labelled(model):
    return {
        name: LabelledLogits(logits, torch.zeros(len(logits), dtype=torch.long))
        for name, logits in model.items()
    }


MODELS = dict(zip(("r1", "r2", "r3"), outputs(1.0, 11, 12, 13), strict=True))
MODELS |= dict(zip(("a1", "a2"), outputs(1.5, 21, 22), strict=True))
MODELS["b1"] = outputs(4.0, 31)[0]
METHODS = {"A": ["a1", "a2"], "B": ["b1"]}
RETRAINS = ["r1", "r2", "r3"]


def test_figures_are_those_of_the_measure(monkeypatch):
    monkeypatch.setattr(module, "CHUNK_VALUES", 20)  # five images together
    found = compute_distances(MODELS.get, METHODS, RETRAINS, multi_label=False)
    assert list(found) == list(SETS)
    references = [labelled(MODELS[each]) for each in RETRAINS]
    own = leave_one_out(references)
    for method, ids in METHODS.items():
        expected = ratio_figures([labelled(MODELS[each]) for each in ids], references)
        for name in SETS:
            figure, key = found[name].figures[method], f"js_ratio_{name}"
            for end in ("value", "low", "high"):
                assert getattr(figure, end) == pytest.approx(getattr(expected[key], end))
            assert found[name].retrain.value == pytest.approx(own[key].value)
            ratios = found[name].by_model[method]
            assert sum(ratios) / len(ratios) == pytest.approx(figure.value)
    assert found["forget"].estimates["A"].value < found["forget"].estimates["B"].value


def test_two_retrains_are_not_compared_with_each_other():
    found = compute_distances(MODELS.get, METHODS, RETRAINS[:2], multi_label=True)
    assert all(each.retrain is None for each in found.values())
    assert compute_distances(MODELS.get, METHODS, RETRAINS[:1], multi_label=True) == {}


def test_every_model_is_read_once():
    seen = []

    def load(model_id):
        seen.append(model_id)
        return MODELS[model_id]

    compute_distances(load, METHODS, RETRAINS, multi_label=False)
    assert seen == [*RETRAINS, "a1", "a2", "b1"]


def test_a_set_without_images_is_left_out_and_equal_retrains_are_below_the_floor():
    equal = {name: {"forget": MODELS[name]["forget"][:0]} | MODELS["r1"] for name in RETRAINS}
    empty = {name: dict(each, test=each["test"][:0]) for name, each in equal.items()}
    found = compute_distances(empty.get, {"A": ["r2"]}, RETRAINS, multi_label=False)
    assert list(found) == ["forget", "retain"]
    assert all(each.floored for each in found.values())
    assert found["forget"].figures["A"].value == 0
    assert "the Retrains differ by less than" in found["forget"].figures["A"].note

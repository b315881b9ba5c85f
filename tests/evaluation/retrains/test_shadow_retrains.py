"""Shadow models as Retrains: their margins stand at the right images, computed from their files."""

import shutil
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evaluation.metrics.lira import shadow_memberships
from evaluation.outputs import label_outputs
from evaluation.retrains.shadow_retrains import serve_as_retrains, shadow_retrain_margins
from evaluation.shadows import (
    SHADOW_FOLDER,
    ShadowSetting,
    load_base_shadows,
    load_retrain_shadows,
    query_margins,
    shadow_margins,
)
from models.architectures import build_model
from models.checkpoint import load_with_digest, save_with_digest
from tests.helpers.methods import real_model
from tests.helpers.tiny import tiny_dataset, tiny_set
from unlearn.engine.settings import config_from_record
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.runtime.errors import UserError
from utils.train.recipe import Recipe

TRAIN, FORGOTTEN = 80, (1, 2, 5, 6, 9, 10, 13, 14, 17, 18)  # of classes 1 and 2
REQUEST = ForgetRequest((), FORGOTTEN)
RECIPE = asdict(Recipe(epochs=1, lr=0.02, batch_size=20))
DATASET = replace(tiny_dataset(train=TRAIN), test=tiny_set(40, seed=2))
COMPARABLE = [row for row in range(40) if row % 4 in (1, 2)]
SHADOWS = 4


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def record_of(method_id, **settings):
    own = METHODS[method_id].recipe
    settings = (asdict(own) if own else RECIPE) | {"epochs": 1, "mask_thresh": None} | settings
    return {"recipe": RECIPE, "selection": "best", "method": method_id, "settings": settings}


def context_of(record, request=REQUEST, retrains=()):
    logits = torch.zeros(40, 4)
    return SimpleNamespace(
        dataset=DATASET,
        request=request,
        model=real_model(),
        record=record,
        non_members="test",
        seed=1,
        retrains=lambda: [SimpleNamespace(record=each) for each in retrains],
        outputs={"test": label_outputs(logits, None, DATASET, request, "test")},
    )


def attack(record, request=REQUEST):
    """(setting, seen, margins) of an attack with SHADOWS shadow models, which are saved."""
    setting = ShadowSetting.of(DATASET, request, real_model(), record, "test", 1)
    seen = shadow_memberships(SHADOWS, len(setting.queries), 1)
    found = [shadow_margins(setting, number, half, False) for number, half in enumerate(seen)]
    return setting, seen, found


def place_of(position):
    """Where an image of the pool stands in the margins."""
    position = int(position)
    if position < TRAIN:
        return FORGOTTEN.index(position)
    return len(FORGOTTEN) + COMPARABLE.index(position - TRAIN)


def direct_margins(weights):
    """Margins log(p / (1 - p)) of the forgotten and the comparable images, from the weights."""
    model = build_model(real_model().spec)
    model.network.load_state_dict(weights)
    parts = (
        DATASET.train.batch(torch.tensor(FORGOTTEN)),
        DATASET.test.batch(torch.tensor(COMPARABLE)),
    )
    images, labels = (torch.cat(each) for each in zip(*parts, strict=True))
    with torch.no_grad():
        logits = model.eval()(images).double()
    p = logits.softmax(1)[torch.arange(len(labels)), labels]
    return (p / (1 - p)).log().numpy()


def test_a_trained_shadow_model_is_a_retrain_for_what_it_was_not_trained_on():
    setting, seen, _ = attack(record_of("FT"))
    found = shadow_retrain_margins(context_of(record_of("FT")))
    assert len(found) == SHADOWS
    for number, margins in enumerate(found):
        trained_on = [place_of(each) for each in setting.queries[torch.from_numpy(seen[number])]]
        expected = direct_margins(torch.load(setting.folder / f"{number:03d}.pt")["weights"])
        expected[trained_on] = np.nan
        assert np.isfinite(margins).any() and np.isnan(margins).any()
        assert margins == pytest.approx(expected, abs=1e-4, nan_ok=True)


def test_the_shadow_models_of_an_attack_on_retrain_are_retrains_of_all_queries():
    setting, _, margins = attack(record_of("Retrain"))
    for record in (record_of("Retrain"), record_of("FT")):
        found = shadow_retrain_margins(context_of(record))
        assert len(found) == SHADOWS
        for ours, theirs in zip(found, margins, strict=True):
            expected = np.full(len(FORGOTTEN) + len(COMPARABLE), np.nan)
            expected[[place_of(each) for each in setting.queries]] = theirs
            assert np.array_equal(ours, expected, equal_nan=True)


def with_seed(seed):
    return record_of("Retrain", seed=seed)


def test_a_shadow_model_with_the_seed_of_a_retrain_is_that_retrain():
    """So it does not count again: two of one model would look as if Retrains did not differ."""
    setting, _, margins = attack(record_of("Retrain"))
    config = config_from_record(METHODS["Retrain"], REQUEST, with_seed(2))
    forget, retain = REQUEST.split(DATASET, "train")
    config = replace(config, retain_val=DATASET.val, show=False)
    retrain = METHODS["Retrain"].run(real_model(), forget, retain, config)
    assert query_margins(setting, retrain) == pytest.approx(margins[0], abs=1e-4)
    found = shadow_retrain_margins(context_of(record_of("FT"), retrains=[with_seed(2)]))
    assert len(found) == SHADOWS - 1
    found = shadow_retrain_margins(context_of(with_seed(5), retrains=[with_seed(2), with_seed(3)]))
    assert len(found) == 1


def test_shadow_models_of_two_attacks_with_one_seed_count_once():
    for seed in (1, 2):  # shadow models with the seeds 2 to 5 and 3 to 6
        setting, _, _ = attack(with_seed(seed))
    assert len(list(load_retrain_shadows(setting))) == 2 * SHADOWS
    assert len(shadow_retrain_margins(context_of(record_of("FT")))) == SHADOWS + 1


def test_which_attacks_serve():
    for method_id in ("FT", "Retrain"):
        assert serve_as_retrains(attack(record_of(method_id))[0])
    assert not serve_as_retrains(attack(record_of("FT"), ForgetRequest((1,)))[0])
    other = ForgetRequest((), FORGOTTEN[2:])
    assert not serve_as_retrains(attack(record_of("Retrain", epochs=2), other)[0])


def test_retrains_by_another_recipe_do_not_count():
    setting, _, _ = attack(record_of("Retrain", epochs=2))
    assert len(list(setting.folder.glob("*.pt"))) == SHADOWS
    assert shadow_retrain_margins(context_of(record_of("FT"))) == []


def test_a_request_of_classes_has_no_such_retrains():
    request = ForgetRequest((1,))
    setting, _, _ = attack(record_of("FT"), request)
    assert len(list(load_base_shadows(setting))) == SHADOWS
    assert shadow_retrain_margins(context_of(record_of("FT"), request)) == []


def test_where_no_attack_was_made_nothing_is_prepared(monkeypatch):
    monkeypatch.setattr(ShadowSetting, "of", None)
    assert shadow_retrain_margins(context_of(record_of("FT"))) == []


def test_where_no_attack_is_possible_there_are_none():
    attack(record_of("FT"))
    assert shadow_retrain_margins(context_of({"method": "FT"})) == []


@pytest.mark.parametrize("method_id, name", [("FT", "001.pt"), ("Retrain", "001_*.pt")])
def test_a_damaged_file_ends_in_one_line(method_id, name):
    setting, _, _ = attack(record_of(method_id))
    [path] = setting.folder.glob(name)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="delete it and start again") as error:
        shadow_retrain_margins(context_of(record_of(method_id)))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("method_id, name", [("FT", "001.pt"), ("Retrain", "001_*.pt")])
def test_the_file_of_another_attack_ends_in_one_line(method_id, name):
    setting, _, _ = attack(record_of(method_id))
    other, _, _ = attack(record_of(method_id), ForgetRequest((), FORGOTTEN[2:]))
    [path], [source] = setting.folder.glob(name), other.folder.glob(name)
    shutil.copy(source, path)
    with pytest.raises(UserError, match=f"{path} is no shadow model of this attack: delete it"):
        shadow_retrain_margins(context_of(record_of(method_id)))


@pytest.mark.parametrize("change", [{"format": "other"}, {"origin": None}, {"origin": {}}])
def test_a_file_of_another_kind_is_foreign(change):
    setting, _, _ = attack(record_of("Retrain"))
    path = sorted(setting.folder.glob("*.pt"))[0]
    save_with_digest(path, load_with_digest(path, "file", "") | change)
    with pytest.raises(UserError, match="no shadow model of this attack"):
        list(load_retrain_shadows(setting))


def test_a_trained_model_says_of_each_query_whether_it_saw_it():
    setting, _, _ = attack(record_of("FT"))
    path = setting.folder / "002.pt"
    content = load_with_digest(path, "file", "")
    content["origin"]["seen"] = content["origin"]["seen"][1:]
    save_with_digest(path, content)
    with pytest.raises(UserError, match="no shadow model of this attack"):
        list(load_base_shadows(setting))
    assert SHADOW_FOLDER in path.parents

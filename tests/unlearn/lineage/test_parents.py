"""A model's base, its yardstick and its peers are found, or refused in one line."""

import functools

import pytest
import torch

from evaluation.outputs import compute_outputs
from models.architectures import build_model, make_spec
from models.checkpoint import load_model, model_path, save_model, save_tensors
from tests.helpers.small_net import SMALL_ARCH
from tests.helpers.tiny import SIZE, same_weights, tiny_dataset, tiny_model
from unlearn.lineage.parents import (
    describe_setting_differences,
    find_retrain,
    load_parent,
    load_retrains,
    load_seed_models,
)
from unlearn.model_ids import unlearned_model_id
from unlearn.request.request import ForgetRequest
from utils.runtime.errors import UserError

REQUEST = ForgetRequest((3,))
BASE = "tiny_best"
RECIPE = {
    "epochs": 12,
    "lr": 0.01,
    "batch_size": 50,
    "optimizer": "sgd",
    "weight_decay": 5e-4,
    "seed": 1,
}
MODEL_ID = unlearned_model_id(BASE, "3", "GA", 5, 0.001)


@functools.cache
def dataset():
    return tiny_dataset()


@functools.cache
def model_of(seed):
    return build_model(make_spec(SMALL_ARCH, 4, 1, SIZE), seed=seed)


def base_record():
    return {"kind": "base", "train_digest": dataset().train_digest(), "recipe": RECIPE}


def unlearned_record(method, settings, request=REQUEST):
    return {
        "kind": "unlearned",
        "method": method,
        "parent_id": BASE,
        "parent_digest": load_model(BASE)[1]["weights_digest"],
        "forget_request": request.record(),
        "train_digest": dataset().train_digest(),
        "recipe": RECIPE,
        "settings": {**settings, "mask_thresh": None},
    }


def save(model_id, weights, record):
    save_model(model_id, model_of(weights), record)
    return load_model(model_id)


def save_retrain(weights, *others, name=None, request=REQUEST, record=None, **settings):
    """Its id, which is main_unlearn.py's unless it has a `name`."""
    settings = RECIPE | settings
    model_id = name or unlearned_model_id(
        BASE, request.id_part(), "Retrain", settings["epochs"], settings["lr"], others=others
    )
    save(model_id, weights, unlearned_record("Retrain", settings, request) | (record or {}))
    return model_id


def save_peer(name, weights, method="GA", record=None, **settings):
    own = RECIPE | {"epochs": 5, "lr": 0.001} | settings
    save(name, weights, unlearned_record(method, own) | (record or {}))
    return name


@pytest.fixture
def family(workplace):
    """(model, record) of a model that has forgotten class 3; its base is there as well."""
    save(BASE, 0, base_record())
    save_peer(MODEL_ID, 1)
    return load_model(MODEL_ID)


def opened(family, ids):
    return load_retrains(ids, MODEL_ID, *family, REQUEST, dataset())


def refused(says, function, *arguments):
    with pytest.raises(UserError, match=says) as told:
        function(*arguments)
    assert "\n" not in str(told.value)


# The yardstick


def test_without_a_retrain_there_is_none(family):
    assert opened(family, None) == {}
    assert opened(family, []) == {}


@pytest.mark.parametrize(
    "other", [{"epochs": 1}, {"lr": 0.1}, {"seed": 2}, {"batch_size": 8}, {"optimizer": "adamw"}]
)
def test_a_retrain_by_another_recipe_has_to_be_named(family, other):
    shorter = save_retrain(2, **other)
    assert find_retrain(MODEL_ID, family[1], REQUEST) is None
    assert opened(family, None) == {}
    assert list(opened(family, [shorter])) == [shorter]


def test_the_retrain_by_the_recipe_is_found_though_its_id_is_longer(family):
    save_retrain(2, epochs=1)
    longer = save_retrain(3, ("seed", 1), ("batch", 50))
    save_retrain(4, epochs=2, lr=0.5)
    (each,) = opened(family, None)
    assert each == longer
    model, record = opened(family, None)[each]
    assert same_weights(model, model_of(3))
    assert record["settings"]["epochs"] == 12


def test_a_base_model_finds_its_retrain_too(family):
    found = save_retrain(2)
    assert find_retrain(BASE, load_model(BASE)[1], REQUEST) == found
    assert find_retrain(found, load_model(found)[1], REQUEST) is None  # not itself
    assert find_retrain(BASE, load_model(BASE)[1], ForgetRequest((1,))) is None


def test_a_retrain_that_lies_there_twice_is_no_yardstick_of_itself(family):
    """One seed gives the same weights again, which may be saved under a name of one's own."""
    save_retrain(2)
    mine = save_retrain(2, name="mine")
    found = load_retrains(None, mine, *load_model(mine), REQUEST, dataset())
    assert found == {}


def test_what_only_looks_like_a_retrain_of_this_base_is_passed_over(family):
    save_retrain(2, record={"parent_digest": "of a base model that was there before"})
    assert opened(family, None) == {}
    save_retrain(2, record={"method": "GA"})
    assert opened(family, None) == {}
    save_retrain(2, request=ForgetRequest((1,)))
    assert opened(family, None) == {}
    found = save_retrain(2)
    assert list(opened(family, None)) == [found]


def test_named_retrains_keep_their_order(family):
    ids = [save_retrain(seed, ("seed", seed), seed=seed) for seed in (4, 2, 3)]
    assert list(opened(family, ids)) == ids
    assert list(opened(family, ids[::-1])) == ids[::-1]


def test_retrains_that_are_none_are_refused(family):
    good = save_retrain(2)
    refused("there is no model", opened, family, ["nothing"])
    refused(f"--retrain_model_id {BASE} was unlearned by another request", opened, family, [BASE])
    peer = save_peer("peer", 5)
    refused("--retrain_model_id peer is not a Retrain but GA", opened, family, [good, peer])
    other = save_retrain(6, name="other", request=ForgetRequest((1,)))
    refused("--retrain_model_id other was unlearned by another request", opened, family, [other])
    elsewhere = save_retrain(6, name="elsewhere", record={"train_digest": "of other images"})
    says = "--retrain_model_id elsewhere was trained on other images"
    refused(says, opened, family, [good, elsewhere])


def test_the_same_weights_are_taken_once(family):
    good = save_retrain(2)
    says = "{} has the same weights as another model: give it once"
    refused(says.format(good), opened, family, [good, good])
    copy = save_retrain(2, name="copy")
    refused(says.format("copy"), opened, family, [good, copy])
    model_itself = save_retrain(1, name="itself")
    refused(says.format("itself"), opened, family, [model_itself])


def test_settings_that_differ_are_told():
    record = {"settings": {"epochs": 1, "lr": 0.1, "seed": 1}}
    wanted = {"epochs": 12, "lr": 0.1, "optimizer": "sgd"}
    assert (
        describe_setting_differences(record, wanted)
        == "epochs 1 (not 12), optimizer None (not sgd)"
    )
    assert (
        describe_setting_differences(record, {})
        == describe_setting_differences(record, record["settings"])
        == ""
    )


# Peers


def peers_of(family, ids):
    return load_seed_models(ids, *family, REQUEST, dataset())


def test_peers_differ_in_the_seed_alone(family):
    ids = [save_peer(f"seed{seed}", seed, seed=seed) for seed in (3, 2)]
    assert list(peers_of(family, ids)) == ids
    assert peers_of(family, []) == {}


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"method": "RL"}, r"differs in more than the seed: method RL \(not GA\)"),
        ({"epochs": 9}, r"differs in more than the seed: epochs 9 \(not 5\)"),
        ({"lr": 0.5, "seed": 7}, r"differs in more than the seed: lr 0.5 \(not 0.001\)"),
        (
            {"record": {"forget_request": ForgetRequest((0,)).record()}},
            "was unlearned by another request",
        ),
        ({"record": {"train_digest": "other"}}, "was trained on other images"),
    ],
)
def test_others_are_no_peers(family, how, says):
    good = save_peer("good", 2, seed=2)
    refused(f"--seed_model_id odd {says}", peers_of, family, [good, save_peer("odd", 3, **how)])


def test_peers_are_taken_once(family):
    good = save_peer("good", 2, seed=2)
    refused("good has the same weights as another model", peers_of, family, [good, good])
    refused(f"{MODEL_ID} has the same weights as another", peers_of, family, [MODEL_ID])


def test_a_base_model_has_no_peers(family):
    base = load_model(BASE)
    refused("--seed_model_id: a base model has no method", peers_of, base, [MODEL_ID])
    assert peers_of(base, []) == {}


# The base model


def parent_of(family):
    model, record = family
    return load_parent(record, model.spec, "cpu")


def test_the_base_model_is_loaded(family):
    base, note = parent_of(family)
    assert same_weights(base, model_of(0)) and note is None
    assert load_parent(load_model(BASE)[1], base.spec, "cpu") == (None, None)


def test_a_base_of_bare_weights_is_read_as_its_child_says(family):
    save_tensors(model_path(BASE), model_of(0).network.state_dict())
    base, note = parent_of(family)
    assert same_weights(base, model_of(0)) and note is None
    assert base.spec == family[0].spec


@pytest.mark.parametrize("bare", [False, True])
def test_a_base_that_is_another_model_now_is_no_base(family, bare):
    if bare:
        save_tensors(model_path(BASE), model_of(7).network.state_dict())
    else:
        save(BASE, 7, base_record())
    assert parent_of(family) == (
        None,
        f"{BASE} is no longer the model that this one was unlearned from",
    )


def test_a_base_that_is_gone_is_no_base(family):
    model_path(BASE).unlink()
    base, note = parent_of(family)
    assert base is None
    assert note.startswith(f"the base model {BASE} is no longer in model_weights")


# Broken models


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_models_without_numbers_are_not_measured(value):
    model = tiny_model()
    with torch.no_grad():
        model.network[-1].weight[1, 2] = value
    refused(
        "the model is broken: its outputs for train images",
        compute_outputs,
        model,
        dataset(),
        REQUEST,
    )

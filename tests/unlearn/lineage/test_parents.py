"""The base model, Retrains and seed models of a model are found, or refused in one line."""

import functools

import pytest
import torch

from evaluation.outputs import compute_outputs
from models.architectures import build_model, make_spec
from models.checkpoint import load_model, model_path, save_model, save_tensors
from tests.helpers.small_net import SMALL_ARCH
from tests.helpers.tiny import SIZE, same_weights, tiny_dataset, tiny_model
from unlearn.lineage.parents import (
    describe_recipe_differences,
    describe_setting_differences,
    find_retrains,
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
    """Save a Retrain and return its id, the one that main_unlearn.py gives unless `name`."""
    settings = RECIPE | settings
    model_id = name or unlearned_model_id(
        BASE, request.id_part(), "Retrain", settings["epochs"], settings["lr"], others=others
    )
    save(model_id, weights, unlearned_record("Retrain", settings, request) | (record or {}))
    return model_id


def save_unlearned(name, weights, method="GA", record=None, **settings):
    own = RECIPE | {"epochs": 5, "lr": 0.001} | settings
    save(name, weights, unlearned_record(method, own) | (record or {}))
    return name


@pytest.fixture
def family(workplace):
    """(model, record) of a model that has forgotten class 3, whose base model exists."""
    save(BASE, 0, base_record())
    save_unlearned(MODEL_ID, 1)
    return load_model(MODEL_ID)


def opened(family, ids):
    return load_retrains(ids, MODEL_ID, *family, REQUEST, dataset())


def refused(message, function, *arguments):
    with pytest.raises(UserError, match=message) as error:
        function(*arguments)
    assert "\n" not in str(error.value)


# Retrain


def test_no_retrain(family):
    assert opened(family, None) == {}
    assert opened(family, []) == {}


@pytest.mark.parametrize(
    "other", [{"epochs": 1}, {"lr": 0.1}, {"batch_size": 8}, {"optimizer": "adamw"}]
)
def test_a_retrain_with_another_recipe_must_be_given(family, other):
    shorter = save_retrain(2, **other)
    assert find_retrains(MODEL_ID, family[1], REQUEST) == []
    assert opened(family, None) == {}
    assert list(opened(family, [shorter])) == [shorter]


def test_the_retrain_with_the_same_recipe_is_found(family):
    save_retrain(2, epochs=1)
    longer = save_retrain(3, ("seed", 1), ("batch", 50))
    save_retrain(4, epochs=2, lr=0.5)
    (each,) = opened(family, None)
    assert each == longer
    model, record = opened(family, None)[each]
    assert same_weights(model, model_of(3))
    assert record["settings"]["epochs"] == 12


def test_the_retrain_of_a_base_model_is_found(family):
    found = save_retrain(2)
    assert find_retrains(BASE, load_model(BASE)[1], REQUEST) == [found]
    assert find_retrains(found, load_model(found)[1], REQUEST) == []  # not the model itself
    assert find_retrains(BASE, load_model(BASE)[1], ForgetRequest((1,))) == []


def test_all_retrains_that_differ_in_the_seed_are_found(family):
    """That with the base model's seed comes first, even if other seeds are smaller."""
    ids = {seed: save_retrain(10 + seed, ("seed", seed), seed=seed) for seed in (10, 0, 2, 1)}
    save_retrain(20, ("seed", 3), seed=3, epochs=1)
    save_retrain(21, ("seed", 4), seed=4, record={"train_digest": "of other images"})
    save_retrain(22, ("seed", 5), seed=5, record={"parent_digest": "of an earlier base model"})
    ordered = [ids[seed] for seed in (1, 0, 2, 10)]
    assert find_retrains(MODEL_ID, family[1], REQUEST) == ordered
    assert list(opened(family, None)) == ordered
    of_another = [ids[seed] for seed in (1, 2, 10)]  # the tested model is a Retrain itself
    assert find_retrains(ids[0], load_model(ids[0])[1], REQUEST) == of_another
    model_path(ids[1]).unlink()
    assert find_retrains(MODEL_ID, family[1], REQUEST) == [ids[seed] for seed in (0, 2, 10)]


def test_one_retrain_of_each_seed_is_found(family):
    """Machines may round differently; such models are too alike to show how seeds differ."""
    first = save_retrain(2, ("batch", 50))
    save_retrain(3, ("seed", 1))
    assert find_retrains(MODEL_ID, family[1], REQUEST) == [first]


def test_a_copy_of_a_retrain_is_not_compared_with_itself(family):
    """The same seed gives the same weights, which may be saved under another name."""
    save_retrain(2)
    mine = save_retrain(2, name="mine")
    found = load_retrains(None, mine, *load_model(mine), REQUEST, dataset())
    assert found == {}


def test_similar_models_are_not_taken_for_a_retrain(family):
    save_retrain(2, record={"parent_digest": "of an earlier base model"})
    assert opened(family, None) == {}
    save_retrain(2, record={"method": "GA"})
    assert opened(family, None) == {}
    save_retrain(2, request=ForgetRequest((1,)))
    assert opened(family, None) == {}
    found = save_retrain(2)
    assert list(opened(family, None)) == [found]


def test_given_retrains_keep_their_order(family):
    ids = [save_retrain(seed, ("seed", seed), seed=seed) for seed in (4, 2, 3)]
    assert list(opened(family, ids)) == ids
    assert list(opened(family, ids[::-1])) == ids[::-1]


def test_other_models_are_refused_as_retrains(family):
    good = save_retrain(2)
    refused("there is no model", opened, family, ["nothing"])
    refused(f"--retrain_model_id {BASE} was unlearned by another request", opened, family, [BASE])
    peer = save_unlearned("other_method", 5)
    refused("--retrain_model_id other_method is not a Retrain but GA", opened, family, [good, peer])
    other = save_retrain(6, name="other", request=ForgetRequest((1,)))
    refused("--retrain_model_id other was unlearned by another request", opened, family, [other])
    elsewhere = save_retrain(6, name="elsewhere", record={"train_digest": "of other images"})
    message = "--retrain_model_id elsewhere was trained on other images"
    refused(message, opened, family, [good, elsewhere])


def test_duplicate_weights_are_refused(family):
    good = save_retrain(2)
    message = "{} has the same weights as another model: give it once"
    refused(message.format(good), opened, family, [good, good])
    copy = save_retrain(2, name="copy")
    refused(message.format("copy"), opened, family, [good, copy])
    model_itself = save_retrain(1, name="itself")
    refused(message.format("itself"), opened, family, [model_itself])


def test_given_retrains_differ_in_the_seed_only(family):
    first = save_retrain(2, epochs=7)  # another recipe than the base model's
    same = save_retrain(3, ("seed", 2), seed=2, epochs=7)
    assert list(opened(family, [first, same])) == [first, same]
    other = save_retrain(4, ("seed", 3), seed=3)
    message = rf"{other} differs from {first} in more than the seed: epochs 12 \(not 7\): give"
    refused(message, opened, family, [first, same, other])
    settings = RECIPE | {"seed": 4, "epochs": 7}
    larger = build_model(make_spec(SMALL_ARCH, 4, 1, 2 * SIZE), seed=5)
    save_model("larger", larger, unlearned_record("Retrain", settings))
    message = rf"larger differs from {first} in more than the seed: input_size 16 \(not 8\)"
    refused(message, opened, family, [first, "larger"])
    again = save_retrain(6, ("batch", 50), epochs=7)
    message = f"{again} has the same seed as {first}: give Retrains of different seeds"
    refused(message, opened, family, [first, again])


def test_a_retrain_of_an_earlier_version_lacks_newer_fields(family):
    first, older = save_retrain(2), save_retrain(3, ("seed", 2), seed=2)
    path = model_path(older)
    content = torch.load(path, weights_only=True)
    for name in ("shards", "partition_seed", "multi_label"):
        del content["record"]["spec"][name]
    content.pop("record_digest", None)
    save_tensors(path, content)
    assert list(opened(family, None)) == [first, older]
    assert list(opened(family, [older, first])) == [older, first]


def test_describe_recipe_differences():
    record = {"settings": {"epochs": 1, "lr": 0.1, "seed": 2, "options": {}}}
    base = {"recipe": {"epochs": 12, "lr": 0.1, "seed": 1}}
    assert describe_recipe_differences(record, base) == "epochs 1 (not 12)"
    assert describe_recipe_differences(record, {}) == ""


def test_describe_setting_differences():
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


# Models of other seeds


def seed_models_of(family, ids):
    return load_seed_models(ids, *family, REQUEST, dataset())


def test_seed_models_differ_only_in_the_seed(family):
    ids = [save_unlearned(f"seed{seed}", seed, seed=seed) for seed in (3, 2)]
    assert list(seed_models_of(family, ids)) == ids
    assert seed_models_of(family, []) == {}


@pytest.mark.parametrize(
    ("how", "message"),
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
def test_other_models_are_refused_as_seed_models(family, how, message):
    good = save_unlearned("good", 2, seed=2)
    refused(
        f"--seed_model_id odd {message}",
        seed_models_of,
        family,
        [good, save_unlearned("odd", 3, **how)],
    )


def test_duplicate_seed_models_are_refused(family):
    good = save_unlearned("good", 2, seed=2)
    refused("good has the same weights as another model", seed_models_of, family, [good, good])
    refused(f"{MODEL_ID} has the same weights as another", seed_models_of, family, [MODEL_ID])


def test_a_base_model_has_no_seed_models(family):
    base = load_model(BASE)
    message = "--seed_model_id: a base model has no unlearning method"
    refused(message, seed_models_of, base, [MODEL_ID])
    assert seed_models_of(base, []) == {}


# The base model


def parent_of(family):
    model, record = family
    return load_parent(record, model.spec, "cpu")


def test_the_base_model_is_loaded(family):
    base, note = parent_of(family)
    assert same_weights(base, model_of(0)) and note is None
    assert load_parent(load_model(BASE)[1], base.spec, "cpu") == (None, None)


def test_a_base_without_a_record_is_read_by_the_spec_of_its_child(family):
    save_tensors(model_path(BASE), model_of(0).network.state_dict())
    base, note = parent_of(family)
    assert same_weights(base, model_of(0)) and note is None
    assert base.spec == family[0].spec


@pytest.mark.parametrize("bare", [False, True])
def test_a_replaced_base_is_not_used(family, bare):
    if bare:
        save_tensors(model_path(BASE), model_of(7).network.state_dict())
    else:
        save(BASE, 7, base_record())
    assert parent_of(family) == (
        None,
        f"{BASE} is no longer the model that this one was unlearned from",
    )


def test_a_missing_base(family):
    model_path(BASE).unlink()
    base, note = parent_of(family)
    assert base is None
    assert note.startswith(f"the base model {BASE} is no longer in model_weights")


# Models with NaN or infinite weights


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_models_with_nan_or_infinite_weights_are_refused(value):
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

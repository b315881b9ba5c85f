"""Default settings, settings that a user chooses, and those that a method refuses."""

import re
from dataclasses import asdict, replace

import pytest

from models.architectures import build_model, make_spec
from tests.helpers.methods import (
    OWN_RECIPE,
    RECIPE,
    REQUEST,
    TRAIN_FROM_SCRATCH,
    by_id,
    by_own_recipe,
    by_task,
    config_for,
    real_model,
    with_recipe,
)
from tests.helpers.small_net import SMALL_ARCH
from tests.helpers.tiny import (
    SIZE,
    same_weights,
    split_set,
    tiny_dataset,
    tiny_model,
    tiny_set,
    trained_model,
)
from unlearn.engine.method import format_option
from unlearn.engine.settings import check_applicable, default_config, override_config
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.runtime.errors import UserError


def test_retrains_defaults_are_the_base_models_recipe_and_selection():
    for selection in ("best", "last"):
        record = {"recipe": asdict(RECIPE), "selection": selection}
        config = default_config(METHODS["Retrain"], REQUEST, record)
        assert config.recipe == RECIPE
        assert config.base_selection == selection
        assert config.request == REQUEST


def test_retrain_of_a_model_without_a_record_is_refused():
    with pytest.raises(UserError, match="--unlearn Retrain: the model file has no record of how"):
        default_config(METHODS["Retrain"], REQUEST, {})


@by_own_recipe
def test_other_methods_have_defaults_of_their_own(method):
    record = {"recipe": asdict(RECIPE), "selection": "best"}
    config = default_config(method, REQUEST, record)
    assert config.recipe == replace(method.recipe, seed=RECIPE.seed)
    assert default_config(method, REQUEST, {}).recipe == method.recipe
    assert config.options.keys() == method.options.keys()


def chosen(method, settings, options=()):
    config = default_config(method, REQUEST, {"recipe": asdict(RECIPE), "selection": "best"})
    return override_config(method, config, settings, options)


@pytest.mark.parametrize("method_id", ["FT", "IU", "Fisher", "SSD", "LFSSD"])
def test_a_setting_is_refused_where_it_changes_nothing_and_only_there(method_id):
    method, image_set = METHODS[method_id], tiny_set(60)
    others = {"epochs": 4, "lr": 0.02, "optimizer": "adamw", "weight_decay": 0.3, "batch_size": 5}
    config = config_for(method, image_set, epochs=2)
    low = {"alpha": 1.2} if "SSD" in method_id else {}  # dampens some weights of so small a set
    config = replace(config, options=config.options | low)

    def result(config):
        return method.run(trained_model(), *split_set(REQUEST, image_set), config)

    usual = result(config)
    for name, value in others.items():
        changed = not same_weights(usual, result(with_recipe(config, **{name: value})))
        if changed:
            chosen(method, {name: value})
        else:
            with pytest.raises(UserError, match=f"--(unlearn_)?{name} has no effect on"):
                chosen(method, {name: value})


@pytest.mark.parametrize(
    "method", [method for method in OWN_RECIPE if not method.uses_mask], ids=lambda each: each.id
)
def test_batches_of_one_image_work_or_are_refused(method):
    def run():
        model = real_model() if method.id in TRAIN_FROM_SCRATCH else trained_model()
        config = with_recipe(config_for(method, tiny_set(12), epochs=1), batch_size=1)
        return method.run(model, *split_set(REQUEST, tiny_set(12)), config)

    if method.allows_batch_of_one:
        chosen(method, {"batch_size": 1})
        run()
        return
    with pytest.raises(UserError, match="cannot train on one image|no effect"):
        chosen(method, {"batch_size": 1})


@by_task
@pytest.mark.parametrize(
    "method", [method for method in OWN_RECIPE if not method.uses_mask], ids=lambda each: each.id
)
def test_of_one_class_alone_single_images_are_forgotten_or_it_is_refused(method, multi_label):
    dataset, request = tiny_dataset(1, multi_label=multi_label), ForgetRequest((), (0, 5, 7, 11))
    try:
        check_applicable(method, dataset)
    except UserError as error:
        assert method.needs_other_class or (multi_label and method.single_label_only)
        assert re.search("has only one: choose another|is multi-label: choose another", str(error))
        return
    model = tiny_model(1)
    if method.id in TRAIN_FROM_SCRATCH:
        model = build_model(make_spec(SMALL_ARCH, 1, 1, SIZE), seed=0)
    config = replace(config_for(method, dataset.train, epochs=1), request=request)
    method.run(model, *request.split(dataset, "train"), config)


def test_an_option_that_is_given_twice_is_refused():
    with pytest.raises(UserError, match="--unlearn_options alpha=2: alpha is given twice"):
        chosen(METHODS["SSD"], {}, [("alpha", "2"), ("dampening", "1"), ("alpha", "3")])


def test_a_step_that_leaves_no_usable_model_is_refused():
    config = config_for(METHODS["IU"], tiny_set())
    config = replace(config, options={"alpha": 1e6, "damping": 1e-30, "samples": 1})
    with pytest.raises(UserError, match="not finite after the step: this model was not saved"):
        METHODS["IU"].run(trained_model(), *split_set(REQUEST, tiny_set()), config)


@by_id
def test_options_are_letters_and_their_defaults_are_in_range(method):
    config = default_config(method, REQUEST, {"recipe": asdict(RECIPE), "selection": "best"})
    for name, option in method.options.items():
        assert name.isalpha()  # in a model id they stand between "_" and "-"
        numbers = option.default if isinstance(option.default, tuple) else (option.default,)
        assert all(option.low <= number <= option.high for number in numbers)
        assert (
            override_config(method, config, {}, [(name, format_option(option.default))]) == config
        )


@by_id
def test_on_a_model_in_shards_the_method_that_needs_one_last_layer_is_named(method):
    needs = method.id.removesuffix("_with_SalUn") in ("EU_k", "CF_k", "BoundaryExpanding")
    check_applicable(method, tiny_dataset(), shards=3 if method.needs_shards else 0)
    if needs:
        with pytest.raises(UserError, match=f"--unlearn {method.id} needs a single last layer"):
            check_applicable(method, tiny_dataset(), shards=3)
    else:
        check_applicable(method, tiny_dataset(), shards=3)

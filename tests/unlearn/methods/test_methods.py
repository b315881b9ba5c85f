"""Each method does what its paper says, and reads no image that it must not."""

import copy
import inspect
import math
import re
from dataclasses import asdict, replace

import pytest
import torch
from scipy.stats import chisquare

from models.architectures import build_model, make_spec
from tests.helpers.methods import (
    CONFIG,
    OWN_RECIPE,
    RECIPE,
    REQUEST,
    TRAIN_FROM_SCRATCH,
    by_id,
    by_own_recipe,
    by_task,
    config_for,
    real_model,
    retrain_config,
    unlearned,
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
    weights_of,
)
from unlearn.engine import loop as descent
from unlearn.engine.method import format_option
from unlearn.engine.settings import check_applicable, default_config, override_config
from unlearn.methods.random_label import draw_wrong_labels
from unlearn.registry import METHODS, describe_methods, find_method, find_methods
from unlearn.request.request import ForgetRequest
from utils.data.datasets import ImageSet
from utils.runtime.errors import UserError
from utils.train.losses import classification_loss
from utils.train.prediction import predict
from utils.train.training import TrainingRun, train_epoch


@pytest.mark.parametrize(
    "method",
    [method for method in METHODS.values() if not method.uses_mask],
    ids=lambda method: method.id,
)
def test_batches_read_ahead_change_nothing(method):
    image_set = tiny_set(40)
    wanted = unlearned(method, image_set, epochs=2)
    assert same_weights(unlearned(method, image_set.stream_to("cpu", 2), epochs=2), wanted)


def with_poison(image_set, where):
    """The same set with other images and labels at `where`, (N,) bool; who is covered stays."""
    images, labels = image_set.images.clone(), image_set.labels.clone()
    images[where] = 255 - images[where]
    if labels.ndim == 2:
        labels[:, [0, 2, 3]] = torch.where(where[:, None], 1 - labels, labels)[:, [0, 2, 3]]
    else:
        labels[where & (labels != REQUEST.classes[0])] = 0
    return ImageSet.from_tensors(images, labels)


def poisoned_results(method, multi_label):
    """Whether the weights stay the same with other forget images, and with other retain images."""
    image_set = tiny_set(multi_label=multi_label)
    covered = REQUEST.has_requested_class(image_set.labels)
    clean = unlearned(method, image_set, epochs=2)
    return [
        same_weights(clean, unlearned(method, with_poison(image_set, where), epochs=2))
        for where in (covered, ~covered)
    ]


@by_task
@pytest.mark.parametrize(
    ("method_id", "ignores_forget_set", "ignores_retain_set"),
    [("Retrain", True, False), ("RL", False, False), ("FT", True, False), ("GA", False, True)],
)
def test_sets_that_a_method_reads(method_id, ignores_forget_set, ignores_retain_set, multi_label):
    expected = [ignores_forget_set, ignores_retain_set]
    assert poisoned_results(METHODS[method_id], multi_label) == expected


@by_id
def test_same_seed_same_weights_and_another_seed_others(method):
    image_set = tiny_set(60)  # several batches of forget images too
    first = unlearned(method, image_set)
    torch.manual_seed(5)  # the process's own random numbers do not matter
    assert same_weights(first, unlearned(method, image_set))
    assert not same_weights(first, unlearned(method, image_set, seed=2))


@by_id
def test_the_global_random_numbers_are_not_used_up(method):
    torch.manual_seed(5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    unlearned(method, tiny_set(), epochs=1)
    assert torch.equal(torch.rand(3), drawn)


@by_id
def test_the_model_comes_back_ready_to_predict(method):
    model = unlearned(method, tiny_set(), epochs=1)
    assert not any(module.training for module in model.modules())


# Random labelling


@pytest.mark.parametrize(
    "method", [method for method in OWN_RECIPE if not method.uses_mask], ids=lambda each: each.id
)
def test_no_more_images_than_two_batches_have_gradients_at_a_time(method):
    """Memory is for the user to choose, by the batch size; some methods pair two sets."""
    seen = []

    def watch(_, inputs):
        seen.append(len(inputs[0]) if torch.is_grad_enabled() else 0)

    image_set, model = tiny_set(120), trained_model()
    if method.id in TRAIN_FROM_SCRATCH:
        model = real_model()
    config = config_for(method, image_set, epochs=2)
    with torch.nn.modules.module.register_module_forward_pre_hook(watch):
        method.run(model, *split_set(REQUEST, image_set), config)
    assert 1 <= max(seen) <= 2 * config.recipe.batch_size + 1


def test_random_labels_are_never_the_true_one():
    generator = torch.Generator().manual_seed(0)
    for num_classes in (2, 3, 8, 14):
        labels = torch.arange(num_classes).repeat(500)
        wrong = draw_wrong_labels(labels, num_classes, ForgetRequest((), (0,)), generator)
        assert (wrong != labels).all()
        assert wrong.min() == 0 and wrong.max() == num_classes - 1
        assert wrong.dtype == torch.int64


@pytest.mark.parametrize("true", range(8))
def test_random_labels_are_uniform_over_the_other_classes(true):
    """Chi-square: a fair draw has a p-value below 1e-4 at one seed in 10,000; these are fixed."""
    generator = torch.Generator().manual_seed(true)
    wrong = draw_wrong_labels(torch.full((70_000,), true), 8, ForgetRequest((true,)), generator)
    counts = torch.bincount(wrong, minlength=8)
    assert counts[true] == 0
    assert chisquare(counts[torch.arange(8) != true]).pvalue > 1e-4


def test_multi_label_relabelling_swaps_the_finding_for_another():
    generator = torch.Generator().manual_seed(0)
    labels = tiny_set(40_000, multi_label=True).labels
    labels = labels[labels[:, 1] == 1]
    wrong = draw_wrong_labels(labels, 4, REQUEST, generator)
    assert not wrong[:, 1].any()
    others = [0, 2, 3]
    switched = wrong[:, others] - labels[:, others]
    assert switched.min() == 0 and switched.sum(1).max() == 1  # the others only ever join
    only = labels.sum(1) == 1  # here the finding that is switched on always shows
    assert (switched[only].sum(1) == 1).all()
    assert chisquare(switched[only].sum(0)).pvalue > 1e-4


@by_task
def test_random_labels_are_drawn_afresh_each_epoch(monkeypatch, multi_label):
    image_set = tiny_set(80, multi_label=multi_label)
    forget_set, retain_set = split_set(REQUEST, image_set)
    seen = []

    def watch(model, epoch_set, *arguments, **named):
        seen.append(epoch_set)
        return train_epoch(model, epoch_set, *arguments, **named)

    monkeypatch.setattr(descent, "train_epoch", watch)
    METHODS["RL"].run(tiny_model(), forget_set, retain_set, CONFIG)
    assert len(seen) == CONFIG.recipe.epochs
    size = len(forget_set)
    for epoch_set in seen:
        assert torch.equal(epoch_set.indices[:size], forget_set.indices)
        assert torch.equal(epoch_set.indices[size:], retain_set.indices)
        assert torch.equal(epoch_set.labels[size:], retain_set.labels)
        assert not REQUEST.has_requested_class(epoch_set.labels).any()
    drawn = [epoch_set.labels[:size] for epoch_set in seen]
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[1], drawn[2])


def test_random_labelling_forgets_and_keeps():
    image_set = tiny_set(120)
    model = trained_model()
    forget_set, retain_set = split_set(REQUEST, image_set)
    assert share_right(model, forget_set) == 1
    METHODS["RL"].run(model, forget_set, retain_set, with_recipe(CONFIG, epochs=15, lr=0.05))
    assert share_right(model, forget_set) < 0.1
    assert share_right(model, retain_set) > 0.9


def share_right(model, image_set):
    return (predict(model, image_set).argmax(1) == image_set.labels).float().mean().item()


# Fine-tuning and gradient ascent


def test_fine_tuning_is_plain_training_on_the_retain_set():
    forget_set, retain_set = split_set(REQUEST, tiny_set())
    config = with_recipe(CONFIG, epochs=1)
    tuned = METHODS["FT"].run(tiny_model(), forget_set, retain_set, config)
    plain = tiny_model().train()
    optimizer = torch.optim.SGD(
        plain.parameters(),
        0.01,
        momentum=0.9,
        nesterov=True,
        weight_decay=config.recipe.weight_decay,
    )
    order = torch.randperm(
        len(retain_set), generator=torch.Generator().manual_seed(config.recipe.seed)
    )
    for part in order.split(7):
        images, labels = retain_set.batch(part)
        optimizer.zero_grad()
        classification_loss(plain(images), labels).backward()
        optimizer.step()
    for ours, theirs in zip(tuned.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def forget_losses(model, forget_set):
    return REQUEST.losses(predict(model, forget_set), forget_set.labels)


@by_task
def test_gradient_ascent_raises_the_forget_loss(multi_label):
    forget_set, retain_set = split_set(REQUEST, tiny_set(120, multi_label=multi_label))
    model = trained_model(multi_label=multi_label)
    before = forget_losses(model, forget_set)
    METHODS["GA"].run(
        model, forget_set, retain_set, with_recipe(CONFIG, lr=0.003, optimizer="adam")
    )
    after = forget_losses(model, forget_set)
    assert after.mean() > 2 * before.mean()
    assert (after > before).float().mean() > 0.9


@by_task
def test_gradient_ascent_steps_along_the_gradient_of_images_still_known(multi_label):
    """One step of plain SGD: those that a guess would know as well push no more."""
    forget_set, retain_set = split_set(REQUEST, tiny_set(120, multi_label=multi_label))
    model = trained_model(multi_label=multi_label)
    losses = forget_losses(model, forget_set)
    chance = 2 if multi_label else 4
    known = forget_set.subset(losses < math.log(chance))
    assert len(known) > 0
    reference = copy.deepcopy(model).eval()
    images, labels = known.batch(slice(None))
    (REQUEST.losses(reference(images), labels).sum() / len(forget_set)).backward()
    config = with_recipe(CONFIG, epochs=1, batch_size=1000, optimizer="sgd", weight_decay=0.0)
    before = weights_of(model)
    METHODS["GA"].run(model, forget_set, retain_set, config)
    for (name, after), part in zip(model.named_parameters(), reference.parameters(), strict=True):
        step = 1.9 * config.recipe.lr * part.grad  # Nesterov's momentum of 0.9 in its first step
        torch.testing.assert_close(after, before[name] + step, rtol=1e-5, atol=1e-6)


def test_gradient_ascent_leaves_what_is_forgotten_already():
    forget_set, retain_set = split_set(REQUEST, tiny_set())
    model = trained_model()
    with torch.no_grad():
        model.network[6].bias[REQUEST.classes[0]] -= 50
    assert forget_losses(model, forget_set).min() > math.log(4)
    before = weights_of(model)
    METHODS["GA"].run(model, forget_set, retain_set, with_recipe(CONFIG, weight_decay=0.0))
    assert same_weights(model, before)


@pytest.mark.parametrize("method_id", ["GA", "GA_with_SalUn"])
def test_gradient_ascent_leaves_the_running_statistics(method_id):
    before = weights_of(trained_model())
    after = unlearned(METHODS[method_id], tiny_set()).state_dict()
    statistics = [name for name in before if "running" in name or "tracked" in name]
    assert len(statistics) == 3
    assert all(torch.equal(after[name], before[name]) for name in statistics)


@pytest.mark.parametrize("epochs", [1, 5])
@pytest.mark.parametrize("batch_size", [3, 100])
def test_ascent_without_bounds_stops_with_one_line(epochs, batch_size):
    """Even where the loss is first infinite after the last step of all."""
    config = with_recipe(CONFIG, lr=1e30, epochs=epochs, batch_size=batch_size)
    with pytest.raises(UserError, match="not finite.*was not saved; try a lower"):
        METHODS["GA"].run(trained_model(), *split_set(REQUEST, tiny_set()), config)


# Retrain


@pytest.mark.parametrize("selection", ["best", "last"])
def test_retrain_is_training_on_the_retain_set(selection):
    dataset = tiny_dataset()
    forget_set, retain_set = split_set(REQUEST, dataset.train)
    retain_val = split_set(REQUEST, dataset.val)[1]
    recipe = replace(RECIPE, epochs=4)
    config = retrain_config(recipe, retain_val, selection)
    retrained = METHODS["Retrain"].run(real_model(), forget_set, retain_set, config)

    fresh = real_model(seed=recipe.seed)
    run = TrainingRun(fresh, retain_set, retain_val, recipe)
    run.run(show=False)
    assert same_weights(retrained, run.best_weights if selection == "best" else fresh)


def test_retrain_is_training_on_data_that_never_had_the_class():
    """The images were deleted before, so that not even their places are left."""
    dataset = tiny_dataset()
    retain_val = split_set(REQUEST, dataset.val)[1]
    config = retrain_config(RECIPE, retain_val)
    retrained = METHODS["Retrain"].run(real_model(), *split_set(REQUEST, dataset.train), config)

    without = []
    for split in (dataset.train, dataset.val):
        keep = split.labels != REQUEST.classes[0]
        without.append(
            ImageSet.from_tensors(split.images[keep].clone(), split.labels[keep].clone())
        )
    run = TrainingRun(real_model(seed=RECIPE.seed), *without, RECIPE)
    run.run(show=False)
    assert same_weights(retrained, run.best_weights)


def test_retrain_does_not_depend_on_the_base_weights():
    dataset = tiny_dataset()
    sets = split_set(REQUEST, dataset.train)
    config = retrain_config(RECIPE, split_set(REQUEST, dataset.val)[1])
    first, second = (METHODS["Retrain"].run(real_model(seed), *sets, config) for seed in (3, 4))
    assert same_weights(first, second)


# The table


@by_id
def test_methods_have_one_shape(method):
    parameters = list(inspect.signature(method.run.load()).parameters)
    assert parameters == ["model", "forget_set", "retain_set", "config"]
    assert method.uses_mask == method.id.endswith("_with_SalUn")
    assert (f"{method.id}_with_SalUn" in METHODS) == (method.supports_mask and not method.uses_mask)


@by_id
def test_methods_are_found_in_any_letter_case(method):
    for text in (method.id, method.id.lower(), method.id.upper(), method.id.swapcase()):
        assert find_method(text) is method


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("Retrian", "Retrain"),
        ("RL_with_Salum", "RL_with_SalUn"),
        ("rlwithsalun", "RL_with_SalUn"),
        ("GA_SalUn", "GA_with_SalUn"),
    ],
)
def test_unknown_methods_are_refused_and_the_nearest_named(text, near):
    with pytest.raises(
        UserError, match=f"--unlearn {text}: .*did you mean {near}.*; choose one of"
    ):
        find_method(text)


def test_a_method_like_no_other_is_refused_with_the_list():
    with pytest.raises(UserError, match="--unlearn zzz: no such method; choose one of Retrain, RL"):
        find_method("zzz")


def test_retrains_defaults_are_the_base_models_recipe_and_selection():
    for selection in ("best", "last"):
        record = {"recipe": asdict(RECIPE), "selection": selection}
        config = default_config(METHODS["Retrain"], REQUEST, record)
        assert config.recipe == RECIPE
        assert config.base_selection == selection
        assert config.request == REQUEST


def test_retrain_of_a_model_without_a_record_is_refused():
    with pytest.raises(UserError, match="--unlearn Retrain: the model file does not tell how"):
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
        assert re.search("has one only: choose another|is multi-label: choose another", str(error))
        return
    model = tiny_model(1)
    if method.id in TRAIN_FROM_SCRATCH:
        model = build_model(make_spec(SMALL_ARCH, 1, 1, SIZE), seed=0)
    config = replace(config_for(method, dataset.train, epochs=1), request=request)
    method.run(model, *request.split(dataset, "train"), config)


def test_an_option_that_is_given_twice_is_refused():
    with pytest.raises(UserError, match="--unlearn_options alpha=2: alpha is given twice"):
        chosen(METHODS["SSD"], {}, [("alpha", "2"), ("dampening", "1"), ("alpha", "3")])


@pytest.mark.parametrize("text", ["all", "ALL", "All"])
def test_all_methods_in_any_letter_case(text):
    assert len(find_methods([text], shards=True)) == len(METHODS)


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
def test_a_row_for_every_method(method):
    lines = describe_methods().splitlines()
    assert max(map(len, lines)) <= 100
    if not method.uses_mask:
        number = next(n for n, line in enumerate(lines) if line.split()[:1] == [method.id])
        variant = f"{method.id}_with_SalUn" in METHODS
        assert lines[number].split()[1] == ("yes" if variant else "-")
        assert lines[number + 1] == f"    {method.name}: {method.paper}"
        assert method.summary.startswith(lines[number + 2].strip())


@by_id
def test_on_a_model_in_shards_the_method_that_needs_one_last_layer_is_named(method):
    needs = method.id.removesuffix("_with_SalUn") in ("EU_k", "CF_k", "BoundaryExpanding")
    check_applicable(method, tiny_dataset(), shards=3 if method.needs_shards else 0)
    if needs:
        with pytest.raises(UserError, match=f"--unlearn {method.id} needs a single last layer"):
            check_applicable(method, tiny_dataset(), shards=3)
    else:
        check_applicable(method, tiny_dataset(), shards=3)

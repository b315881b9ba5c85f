"""Shards are trained separately, and SISA equals Retrain for the cost of the affected shards."""

import copy
import functools
import math
from dataclasses import asdict, replace

import pytest
import torch

from models import architectures
from models.architectures import build_model, build_shard, make_spec, sharded_spec
from models.checkpoint import load_model, save_model
from models.ensemble import Ensemble, shard_seed
from models.features import classifier_head, predict_with_features
from models.shards import ShardedRun, assign_shards, shards_of_images, training_run
from tests.helpers.environment import TRAIN, assert_one_line, model_flags
from tests.helpers.output import results_of
from tests.helpers.small_net import SMALL_ARCH
from tests.helpers.tiny import SIZE, same_weights, tiny_set, weights_of
from unlearn.engine.config import UnlearnConfig
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.data.datasets import ImageSet
from utils.runtime.errors import UserError
from utils.train.losses import classification_loss
from utils.train.prediction import predict
from utils.train.recipe import Recipe
from utils.train.training import TrainingRun

SHARDS = 3
RECIPE = Recipe(epochs=2, lr=0.02, batch_size=6, seed=7)
TRAIN_SET, VAL_SET = tiny_set(36), tiny_set(12, seed=1)


def spec_of(shards=SHARDS, *, partition_seed=7, multi_label=False):
    return sharded_spec(make_spec(SMALL_ARCH, 4, 1, SIZE), shards, partition_seed, multi_label)


def trained(train_set=TRAIN_SET, *, recipe=RECIPE, val_set=VAL_SET, spec=None):
    model = build_model(spec or spec_of(), seed=recipe.seed)
    run = training_run(model, train_set, val_set, recipe)
    run.run(show=False)
    return run


@functools.cache
def whole_run():
    """A trained run of all shards, not to be changed."""
    return trained()


def base_model(selection="last"):
    run = whole_run()
    model = copy.deepcopy(run.model)
    if selection == "best":
        model.load_state_dict(run.best_weights)
    return model


def shard_of(weights, number):
    prefix = f"network.shards.{number}."
    return {
        name.removeprefix(prefix): part for name, part in weights.items() if name.startswith(prefix)
    }


def split_at(rows):
    """(forget_set, retain_set) with the images at `rows` in the forget set."""
    forget = torch.zeros(len(TRAIN_SET), dtype=torch.bool)
    forget[rows] = True
    return TRAIN_SET.subset(forget), TRAIN_SET.subset(~forget)


def config_of(selection="last", recipe=RECIPE):
    return UnlearnConfig(
        ForgetRequest((1,)), recipe, base_selection=selection, retain_val=VAL_SET, show=False
    )


def rows_of_shard(number, count=1):
    return (assign_shards(len(TRAIN_SET), spec_of()) == number).nonzero()[:count, 0]


# Which image lies where


@pytest.mark.parametrize(("count", "shards"), [(36, 3), (37, 5), (96, 2), (11, 11)])
def test_each_image_lies_in_one_shard_and_sizes_differ_by_one(count, shards):
    spec = spec_of(shards)
    numbers = assign_shards(count, spec)
    sizes = torch.bincount(numbers, minlength=shards)
    assert len(sizes) == shards and sizes.sum() == count and sizes.max() - sizes.min() <= 1
    torch.manual_seed(99)  # the global random state does not matter
    assert torch.equal(numbers, assign_shards(count, spec))
    if shards < count:
        assert not torch.equal(numbers, assign_shards(count, spec_of(shards, partition_seed=8)))


def test_a_part_of_the_images_keeps_its_shards():
    numbers = assign_shards(36, spec_of())
    rows = torch.tensor([30, 2, 11])
    assert torch.equal(shards_of_images(TRAIN_SET.subset(rows), spec_of()), numbers[rows])


def test_shards_and_seeds_share_no_seed():
    seeds = {shard_seed(seed, number) for seed in (*range(20), 2**63 - 1) for number in range(20)}
    assert len(seeds) == 21 * 20
    assert min(seeds) >= 0 and max(seeds) < 2**63


# The predictions of several networks


def test_probabilities_are_averaged():
    logits = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)) * 3
    networks = [_Constant(part) for part in logits]
    single = Ensemble(networks, multi_label=False)(None)
    torch.testing.assert_close(single.softmax(1), logits.softmax(2).mean(0))
    torch.testing.assert_close(single.exp().sum(1), torch.ones(5))
    multi = Ensemble(networks, multi_label=True)(None)
    torch.testing.assert_close(multi.sigmoid(), logits.sigmoid().mean(0))


def test_certain_networks_that_disagree_stay_finite():
    extreme = [_Constant(torch.tensor([[200.0, -200.0]])), _Constant(torch.tensor([[-200.0, 90]]))]
    for multi_label in (False, True):
        logits = Ensemble(extreme, multi_label)(None)
        assert logits.isfinite().all()
        torch.testing.assert_close(logits[0, 0].exp(), torch.tensor(1.0 if multi_label else 0.5))


class _Constant(torch.nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, _):
        return self.logits


def test_a_network_by_itself_is_the_one_in_the_ensemble():
    whole = build_model(spec_of(), seed=7)
    for number in range(SHARDS):
        alone = build_shard(spec_of(), number, seed=7).network
        assert same_weights(alone, whole.network.shards[number])
    assert not same_weights(*whole.network.shards[:2])


def test_features_are_those_of_each_network_side_by_side():
    model = build_model(spec_of(), seed=7)
    logits, features = predict_with_features(model, TRAIN_SET)
    assert torch.equal(logits, predict(model, TRAIN_SET))
    assert features.shape == (36, SHARDS * 256)
    for number, part in enumerate(features.split(256, 1)):
        alone = build_shard(spec_of(), number, seed=7)
        assert torch.equal(part, predict_with_features(alone, TRAIN_SET)[1])
    with pytest.raises(
        UserError, match="3 last layers, and this needs exactly one: choose another"
    ):
        classifier_head(model)
    nobody = TRAIN_SET.subset(slice(0, 0))
    assert [tuple(part.shape) for part in predict_with_features(model, nobody)] == [(0, 4), (0, 0)]


def test_a_checkpoint_holds_all_networks(workplace):
    model = build_model(spec_of(multi_label=True), seed=7)
    save_model("shards", model, {})
    again, record = load_model("shards")
    assert again.spec == model.spec and same_weights(again, model)
    assert (record["spec"]["shards"], record["spec"]["partition_seed"]) == (SHARDS, 7)
    assert "shards.0.conv1.weight" in again.network.state_dict()
    assert torch.equal(predict(again, TRAIN_SET), predict(model.eval(), TRAIN_SET))


# Training


def test_each_shard_is_trained_by_itself_on_its_own_images():
    run = whole_run()
    numbers = assign_shards(36, spec_of())
    alone = []
    for number in range(SHARDS):
        seed = shard_seed(RECIPE.seed, number)
        model = build_model(make_spec(SMALL_ARCH, 4, 1, SIZE), seed=seed)
        part = TRAIN_SET.subset(numbers == number)
        alone.append(TrainingRun(model, part, VAL_SET, replace(RECIPE, seed=seed)))
        alone[-1].run(show=False)
        assert same_weights(model.network, run.model.network.shards[number])
        best = {name.removeprefix("network."): t for name, t in alone[-1].best_weights.items()}
        assert same_weights(best, shard_of(run.best_weights, number))
    assert run.best_epoch == [each.best_epoch for each in alone]
    assert len(run.history) == RECIPE.epochs
    for epoch, figures in enumerate(run.history):
        for key, value in figures.items():
            assert value == pytest.approx(sum(e.history[epoch][key] for e in alone) / SHARDS)


def test_an_interrupted_run_gives_the_same_weights(tmp_path):
    whole = whole_run()

    class Interrupted(Exception):
        pass

    def keep(run):
        torch.save(run.state(), tmp_path / "state.pt")
        raise Interrupted

    stopped = training_run(build_model(spec_of(), seed=7), TRAIN_SET, VAL_SET, RECIPE)
    with pytest.raises(Interrupted):
        stopped.run(after_epoch=keep, show=False)
    torch.manual_seed(99)
    model = build_model(spec_of(), initial_weights=False)
    resumed = training_run(model, TRAIN_SET, VAL_SET, RECIPE)
    resumed.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert len(resumed.history) == 1
    resumed.run(show=False)
    assert same_weights(resumed.model, whole.model)
    assert same_weights(resumed.best_weights, whole.best_weights)
    assert (resumed.best_epoch, resumed.history) == (whole.best_epoch, whole.history)


def test_too_many_shards_are_refused():
    with pytest.raises(UserError, match="shard 0 of 30 has 2|shard . of 30 has 1 training images"):
        trained(spec=spec_of(30))


# Unlearning


@pytest.mark.parametrize(
    ("selection", "where"), [("best", [2]), ("last", [0, 1]), ("best", [0, 1, 2])]
)
def test_only_affected_shards_change_and_the_result_is_retrains(selection, where):
    base = base_model(selection)
    before = weights_of(base)
    sets = split_at(torch.cat([rows_of_shard(number, 2) for number in where]))
    retrained = METHODS["Retrain"].run(base, *sets, config_of(selection))
    unlearned = METHODS["SISA"].run(base, *sets, config_of(selection))
    assert same_weights(unlearned, retrained)
    after = weights_of(unlearned)
    for number in range(SHARDS):
        untouched = same_weights(shard_of(before, number), shard_of(after, number))
        assert untouched == (number not in where)


def test_an_affected_shard_is_trained_without_the_image():
    """The image is deleted before, not only left out."""
    base = base_model()
    row = rows_of_shard(1)
    unlearned = METHODS["SISA"].run(base, *split_at(row), config_of())
    left = [number for number in rows_of_shard(1, 99) if number != row]
    images, labels = TRAIN_SET.batch(torch.stack(left))
    seed = shard_seed(RECIPE.seed, 1)
    alone = build_model(make_spec(SMALL_ARCH, 4, 1, SIZE), seed=seed)
    part = ImageSet.from_tensors(images.clone(), labels.clone())
    TrainingRun(alone, part, VAL_SET, replace(RECIPE, seed=seed)).run(show=False)
    assert same_weights(unlearned.network.shards[1], alone.network)


def test_the_forgotten_images_are_not_used():
    sets = split_at(rows_of_shard(1, 2))
    first = METHODS["SISA"].run(base_model(), *sets, config_of())
    images, labels = TRAIN_SET.images.clone(), TRAIN_SET.labels.clone()
    images[sets[0].indices], labels[sets[0].indices] = 0, 3
    other = ImageSet.from_tensors(images, labels)
    poisoned = (other.subset(part.indices) for part in sets)
    assert same_weights(first, METHODS["SISA"].run(base_model(), *poisoned, config_of()))


def test_successive_requests_equal_one_joint_request():
    first, second = rows_of_shard(0, 1), rows_of_shard(2, 1)
    one = METHODS["SISA"].run(base_model(), *split_at(first), config_of())
    both = split_at(torch.cat([first, second]))
    at_once = METHODS["SISA"].run(base_model(), *both, config_of())
    then = METHODS["SISA"].run(one, *both, config_of())
    assert same_weights(at_once, then)


def test_a_shard_that_would_be_left_with_one_image_is_refused():
    rows = rows_of_shard(1, 11)
    with pytest.raises(UserError, match="shard 1 of 3 has 1 training images and needs at least 2"):
        METHODS["SISA"].run(base_model(), *split_at(rows), config_of())


def test_multi_label_shards():
    train_set, val_set = tiny_set(36, multi_label=True), tiny_set(12, multi_label=True, seed=1)
    run = trained(train_set, val_set=val_set, spec=spec_of(multi_label=True))
    loss = classification_loss(predict(run.model.eval(), train_set), train_set.labels)
    assert loss < math.log(2)
    forget = torch.zeros(36, dtype=torch.bool)
    forget[rows_of_shard(0)] = True
    sets, config = (train_set.subset(forget), train_set.subset(~forget)), config_of()
    config = replace(config, retain_val=val_set)
    retrained = METHODS["Retrain"].run(run.model, *sets, config)
    assert same_weights(METHODS["SISA"].run(run.model, *sets, config), retrained)


# Through the scripts


@pytest.fixture
def sharded(done, workplace, data_files, undrawn):
    """The flags of a model in shards of the grey set, trained here."""
    data = ("--dataset", data_files["grey"], "--device", "cpu")
    printed = done(
        *("main_train", "--save_model_id", "cut", *data, *TRAIN),
        *("--sisa_shards", "3", "--epochs", "2"),
    )
    assert f"training 3 shards of {SMALL_ARCH}" in printed
    assert "model: model_weights/cut_best.pt, epoch " in printed
    return model_flags(data_files["grey"], "cut_best")


def test_from_training_to_the_test(done, sharded):
    """A model in shards, unlearned by SISA, by Retrain and inside a mask, and tests of all."""
    request = ("--class_to_forget", "3")
    record = load_model("cut_best")[1]
    assert (record["spec"]["shards"], record["spec"]["partition_seed"]) == (3, 1)
    assert len(record["history"]) == 2 and len(record["epoch"]) == 3
    made = {
        method: done("main_unlearn", *sharded, *request, "--unlearn", method).split()[-1]
        for method in ("SISA", "Retrain")
    }
    assert made["SISA"] == "cut_best_FORGOTTEN_3_SISA_unlearnEpochs2_unlearnlr01"
    sisa, retrain = (load_model(model_id) for model_id in made.values())
    assert sisa[1]["weights_digest"] == retrain[1]["weights_digest"]
    done("generate_mask", *sharded, *request)
    salun = ("--unlearn", "RL_with_SalUn", "--unlearn_epochs", "1")
    masked = done("main_unlearn", *sharded, *request, *salun).split()[-1]
    assert asdict(load_model(masked)[0].spec) == record["spec"]
    tested = ("--model_id", made["SISA"], *sharded[2:])
    few = ("--measures", "forgetting", "utility", "distance")
    named = ("--retrain_model_id", made["Retrain"])
    for flags in ((), named):  # with and without naming it
        printed = done("main_test_unlearn", *tested, *few, *flags)
        assert f"Retrain: {made['Retrain']}\n" in printed
        assert results_of(made["SISA"])["average_gap_points"] == 0
    done("main_test", *tested, "--no_window")


def test_a_sharded_training_is_resumed(
    run_here, workplace, data_files, undrawn, sharded, monkeypatch
):
    whole = load_model("cut_last")[0]
    flags = ("--dataset", data_files["grey"], "--device", "cpu", *TRAIN, "--epochs", "2")
    flags = ("--save_model_id", "again", *flags, "--sisa_shards", "3")
    run_epochs = ShardedRun._line

    def stop(run):
        if len(run.history) == 2:
            raise KeyboardInterrupt
        return run_epochs(run)

    monkeypatch.setattr(ShardedRun, "_line", stop)
    stopped = run_here("main_train", *flags)
    assert_one_line(stopped.stderr, "interrupted: 1 of 2 epochs are saved; add --resume")
    monkeypatch.undo()
    monkeypatch.chdir(workplace)
    other = run_here("main_train", *flags, "--sisa_shards", "4", "--resume")
    assert_one_line(other.stderr, r"differs in shards 3 \(not 4\)")
    assert run_here("main_train", *flags, "--resume").returncode == 0
    assert same_weights(load_model("again_last")[0], whole)


def test_a_model_without_shards_is_refused(refused, trained, data_files):
    flags = (*model_flags(data_files["grey"]), "--class_to_forget", "3", "--unlearn", "SISA")
    message = r"needs a base model trained in shards: train one with main_train.py --sisa"
    assert refused(message, "main_unlearn", *flags) == []


def test_what_a_model_in_shards_cannot_do(refused, sharded, workplace, data_files, monkeypatch):
    message = (
        "shadow models of this attack are single networks, and this model has 3 shards: attack"
    )
    refused(message, "main_mia", *sharded, "--class_to_forget", "3")
    flags = ("--dataset", data_files["grey"], "--device", "cpu", "--save_model_id", "x", *TRAIN)
    refused("--sisa_shards: 1 is out of range", "main_train", *flags, "--sisa_shards", "1")
    build_model = architectures.build_model

    def build_without_memory(*values, **named):
        assert torch.empty(0).device.type == "meta"  # it is refused before a network is built
        return build_model(*values, **named)

    monkeypatch.setattr(architectures, "build_model", build_without_memory)
    message = (
        "--sisa_shards 70: each shard needs at least 2 training images, and there are 96: give 48 "
        "at most"
    )
    refused(message, "main_train", *flags, "--sisa_shards", "70")

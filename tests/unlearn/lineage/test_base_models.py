"""Several base models must differ in the seed, and in nothing else."""

from dataclasses import asdict, replace

import pytest

from models.architectures import build_model, make_spec, sharded_spec
from models.checkpoint import model_path, read_record, save_model, save_tensors
from tests.helpers.small_net import SMALL_ARCH
from tests.helpers.tiny import SIZE
from unlearn.lineage.base_models import check_same_recipe, read_base_records
from utils.runtime.errors import UserError
from utils.train.recipe import Recipe

RECIPE = Recipe(12, 0.01, 50)
SPEC = make_spec(SMALL_ARCH, 4, 1, SIZE)
IDS = ["a_best", "b_best"]


def record_of(seed, **changes):
    return {
        "kind": "base",
        "train_digest": "images",
        "val_digest": "others",
        "spec": asdict(SPEC),
        "recipe": asdict(replace(RECIPE, seed=seed)),
        "selection": "best",
        "weights_digest": f"weights {seed}",
    } | changes


def refusal(first, second):
    with pytest.raises(UserError) as caught:
        check_same_recipe(IDS, [first, second])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_other_seeds_are_accepted():
    check_same_recipe([*IDS, "c_best"], [record_of(seed) for seed in (1, 2, 7)])


def test_shards_may_be_drawn_with_other_seeds():
    specs = [sharded_spec(SPEC, 3, seed, False) for seed in (1, 2)]
    check_same_recipe(IDS, [record_of(n, spec=asdict(spec)) for n, spec in enumerate(specs)])
    assert "shards 3 (not 0)" in refusal(record_of(1), record_of(2, spec=asdict(specs[1])))


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"recipe": asdict(replace(RECIPE, epochs=4, lr=0.1, seed=2))}, "epochs 4 (not 12), lr"),
        ({"recipe": asdict(replace(RECIPE, seed=2, precision="bf16"))}, "precision bf16 (not"),
        ({"spec": asdict(replace(SPEC, pretrained=True))}, "pretrained True (not False)"),
        ({"selection": "last"}, "selection last (not best)"),
        ({"train_digest": "x"}, "the training images"),
        ({"val_digest": "x"}, "the validation images"),
    ],
)
def test_more_than_the_seed(changes, difference):
    message = refusal(record_of(1), record_of(2, **changes))
    assert f"b_best differs from a_best in more than the seed: {difference}" in message
    assert "main_train.py --seeds 1 2 3" in message


def test_records_of_earlier_versions_have_no_digest_of_the_validation_images():
    earlier = record_of(2)
    del earlier["val_digest"], earlier["recipe"]["compiled"], earlier["spec"]["shards"]
    check_same_recipe(IDS, [record_of(1), earlier])
    check_same_recipe(IDS, [earlier, record_of(1)])


def test_the_same_model_or_seed():
    same_weights = record_of(2, weights_digest="weights 1")
    assert "b_best has the same weights as a_best: give it once" in refusal(
        record_of(1), same_weights
    )
    elsewhere = record_of(1, weights_digest="of another device")
    assert "b_best has the same seed as a_best, 1:" in refusal(record_of(1), elsewhere)
    with pytest.raises(UserError, match="--model_id a is given twice: give each base model once"):
        check_same_recipe(["a", "b", "a"], [record_of(1), record_of(2), record_of(1)])


def test_an_unlearned_model_is_no_base_model():
    unlearned = record_of(2, kind="unlearned")
    assert "b_best is an unlearned model already" in refusal(record_of(1), unlearned)
    with pytest.raises(UserError, match="is an unlearned model already"):
        check_same_recipe(["alone"], [unlearned])


def test_bare_weights_can_only_be_compared_alone():
    check_same_recipe(["bare"], [{}])
    message = refusal(record_of(1), {})
    assert "b_best has no record of its training" in message
    assert "main_train.py --seeds 1 2 3" in message


@pytest.mark.usefixtures("workplace")
def test_records_are_read_from_the_files():
    for seed in (1, 2):
        record = record_of(seed)
        del record["spec"], record["weights_digest"]
        save_model(f"m{seed}", build_model(SPEC, seed=seed), record)
    save_tensors(model_path("bare"), build_model(SPEC, seed=3).network.state_dict())
    ids = ["m2", "m1"]
    assert read_base_records(ids) == {model_id: read_record(model_id) for model_id in ids}
    assert read_base_records(["bare"]) == {"bare": {}}
    for given, message in (
        (["m1", "m3"], "there is no model model_weights/m3.pt"),
        (["m1", "bare"], "bare has no record of its training"),
        (["m1", "m2", "m1"], "--model_id m1 is given twice"),
    ):
        with pytest.raises(UserError, match=message):
            read_base_records(given)

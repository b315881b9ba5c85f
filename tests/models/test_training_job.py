"""main_train.py --seeds: several base models, each as a run of its own would make it."""

from pathlib import Path

import numpy as np
import pytest

from models.checkpoint import load_model, read_record
from tests.helpers.environment import assert_one_line, contents, train_flags
from tests.helpers.tiny import same_weights
from unlearn.lineage.base_models import read_base_records
from utils.data import loading
from utils.io.locks import exclusive_lock
from utils.runtime.errors import NotFiniteError, UserError
from utils.train import training

pytestmark = pytest.mark.usefixtures("undrawn")
SEEDS = ("--seeds", "1", "2", "3")
NAMES = ["new_seed1", "new_seed2", "new_seed3"]
IDS = " ".join(f"{name}_best" for name in NAMES)
SHORT = ("--epochs", "2")


@pytest.fixture
def flags(data_files):
    return (*train_flags(data_files["grey"]), *SHORT)


@pytest.fixture
def stop_in_epoch(monkeypatch):
    """Return a function: the nth epoch from now on raises `error`, those after it train again."""
    whole = training.train_epoch

    def arm(nth, error):
        seen = []

        def train_epoch(*args, **kwargs):
            seen.append(True)
            if len(seen) == nth:
                raise error
            return whole(*args, **kwargs)

        monkeypatch.setattr(training, "train_epoch", train_epoch)

    return arm


def weights_of_all():
    return [load_model(f"{name}_{end}")[0] for name in NAMES for end in ("best", "last")]


def all_same(first, second):
    return all(same_weights(*pair) for pair in zip(first, second, strict=True))


def test_each_model_is_that_of_a_run_with_its_seed(workplace, done, flags, monkeypatch):
    loads = []
    load = loading.load_dataset
    monkeypatch.setattr(loading, "load_dataset", lambda *a, **k: loads.append(1) or load(*a, **k))
    printed = done("main_train", *flags, "--seeds", "2", "1", "3", "2")
    assert printed.splitlines()[-1] == "new_seed2_best new_seed1_best new_seed3_best"
    assert printed.splitlines()[-2].endswith("for main_compare.py --model_id:")
    assert len(loads) == 1
    assert [path.parent.name for path in sorted(Path("pics").rglob("training.png"))] == NAMES
    done("main_train", *flags, "--save_model_id", "single", "--seed", "2")
    for end in ("best", "last"):
        models = [load_model(f"{name}_{end}")[0] for name in ("new_seed2", "single", "new_seed1")]
        assert same_weights(models[0], models[1])
        assert not same_weights(models[0], models[2])
    records = read_base_records(IDS.split())  # which checks that they differ in the seed only
    assert [record["recipe"]["seed"] for record in records.values()] == [1, 2, 3]
    assert not list(workplace.rglob("model_weights/.*"))


def test_an_interrupted_command_is_resumed(workplace, run_here, done, flags, stop_in_epoch):
    done("main_train", *flags, *SEEDS)
    expected = weights_of_all()
    for path in Path("model_weights").iterdir():
        path.unlink()

    stop_in_epoch(4, KeyboardInterrupt())  # the second epoch of the second model
    stopped = run_here("main_train", *flags, *SEEDS)
    assert stopped.returncode == 130
    says = "interrupted: new_seed1 is finished; new_seed2: 1 of 2 epochs are saved; add --resume"
    assert_one_line(stopped.stderr, says)
    first = contents(workplace)
    printed = done("main_train", *flags, *SEEDS, "--resume")
    assert "new_seed1_best.pt and model_weights/new_seed1_last.pt are finished already\n" in printed
    assert "\nnew_seed2, seed 2\nresuming after epoch 1\n" in printed
    assert "\nnew_seed3, seed 3\nno interrupted run to resume: training starts" in printed
    assert printed.splitlines()[-1] == IDS
    assert all_same(weights_of_all(), expected)
    after = contents(workplace)
    assert all(after[path] == data for path, data in first.items() if "seed1" in str(path))

    printed = done("main_train", *flags, *SEEDS, "--resume")
    assert printed.count("are finished already") == 3
    assert printed.splitlines()[-1] == IDS
    assert contents(workplace) == after


def test_ctrl_c_before_anything_is_saved(run_here, flags, stop_in_epoch):
    stop_in_epoch(1, KeyboardInterrupt())
    stopped = run_here("main_train", *flags, *SEEDS)
    assert_one_line(stopped.stderr, "interrupted: nothing unfinished was saved")
    stop_in_epoch(3, KeyboardInterrupt())
    stopped = run_here("main_train", *flags, *SEEDS)
    says = "interrupted: new_seed1 is finished; add --resume to train new_seed2$"
    assert_one_line(stopped.stderr, says)


def test_existing_models_are_checked_before_the_first_is_trained(done, refused, flags):
    done("main_train", *flags, "--seeds", "3")
    before = Path("model_weights/new_seed3_best.pt").read_bytes()
    says = "new_seed3 is finished already: add --resume to keep what is finished and train the"
    assert refused(says, "main_train", *flags, *SEEDS) == []
    other = (*flags, *SEEDS, "--lr", "0.02")
    assert refused("new_seed3_last.pt would be replaced", "main_train", *other, "--resume") == []
    with exclusive_lock("model_weights/new_seed2_resume.pt", "it"):
        says = "the model new_seed2 is being written by another run"
        assert refused(says, "main_train", *flags, *SEEDS, "--resume") == []
    done("main_train", *other, "--overwrite")
    assert Path("model_weights/new_seed3_best.pt").read_bytes() != before
    assert read_record("new_seed3_best")["recipe"]["lr"] == 0.02


def test_a_loss_that_is_not_finite_stops_and_says_what_is_finished(
    refused, run_here, flags, stop_in_epoch
):
    stop_in_epoch(3, NotFiniteError("in training"))
    says = (
        "error: new_seed2: the loss is not finite any more in epoch 1 of 2, in training: this "
        "model was not saved; try a lower learning rate; new_seed1 is finished$"
    )
    made = refused(says, "main_train", *flags, *SEEDS)
    assert [name for name in made if name.endswith(".pt")] == [
        f"model_weights/new_seed1_{end}.pt" for end in ("best", "last")
    ]


def test_shards(done, flags):
    printed = done("main_train", *flags, "--epochs", "1", "--sisa_shards", "2", "--seeds", "4", "5")
    ids = printed.splitlines()[-1].split()
    assert ids == ["new_seed4_best", "new_seed5_best"]
    specs = [record["spec"] for record in read_base_records(ids).values()]
    assert [(spec["shards"], spec["partition_seed"]) for spec in specs] == [(2, 4), (2, 5)]


def test_other_validation_images_make_another_run(done, refused, flags, data_files):
    """They choose the best epoch."""
    once = (*flags, "--epochs", "1", "--resume")
    done("main_train", *once)
    assert "finished already" in done("main_train", *once)
    arrays = dict(np.load(data_files["grey"]))
    np.savez("other.npz", **arrays | {"val_images": arrays["val_images"][::-1]})
    refused("new_last.pt would be replaced", "main_train", *once, "--dataset", "other.npz")
    done("main_train", *once, "--dataset", "other.npz", "--save_model_id", "other", "--seed", "2")
    with pytest.raises(UserError, match="in more than the seed: the validation images: "):
        read_base_records(["new_best", "other_best"])


def test_seed_and_seeds_exclude_each_other(refused, flags):
    says = "--seed and --seeds exclude each other: give one of them"
    for first, second in (("--seed 1", "--seeds 1 2"), ("--seeds 2", "--seed 1")):
        assert refused(says, "main_train", *flags, *first.split(), *second.split()) == []
    refused("--seed is given twice", "main_train", *flags, "--seed", "1", "--seed", "2")


def test_a_name_that_is_too_long_with_its_seed_is_refused(refused, flags):
    name = "x" * 190
    says = r"--save_model_id, with _seed1234567_best, 'x+_seed1234567_best' is not a usable id"
    given = (*flags, "--save_model_id", name, "--seeds", "1234567")
    assert refused(says, "main_train", *given) == []

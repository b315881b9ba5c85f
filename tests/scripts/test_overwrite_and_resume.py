"""--overwrite and --resume, one after the other and together."""

import pytest

from models.checkpoint import load_model, load_tensors
from tests.helpers.environment import BASE, model_flags, train_flags
from tests.helpers.tiny import same_weights
from unlearn.engine import loop
from unlearn.request.request import ForgetRequest
from unlearn.saliency import SaliencyMap, save_saliency_map
from utils.train import training

UNLEARN = ("--unlearn", "FT", "--class_to_forget", "3", "--unlearn_epochs", "2")


@pytest.fixture
def interrupt_second_epoch(monkeypatch):
    """Return a function that makes the second epoch from now on, in `module`, end in Ctrl-C."""

    def arm(module):
        whole, seen = module.train_epoch, []

        def train_epoch(*args, **kwargs):
            seen.append(True)
            if len(seen) == 2:
                raise KeyboardInterrupt
            return whole(*args, **kwargs)

        monkeypatch.setattr(module, "train_epoch", train_epoch)

    return arm


def test_an_interrupted_overwrite_of_an_unlearned_model_is_resumed(
    trained, run_here, done, data_files, undrawn, interrupt_second_epoch
):
    flags = (*model_flags(data_files["grey"]), *UNLEARN)
    model_id = done("main_unlearn", *flags).split()[-1]
    path = trained / "model_weights" / f"{model_id}.pt"
    model, content = load_model(model_id)[0], path.read_bytes()
    interrupt_second_epoch(loop)
    assert run_here("main_unlearn", *flags, "--overwrite").returncode == 130
    assert path.read_bytes() == content
    resumed = done("main_unlearn", *flags, "--resume")
    assert "resuming after epoch 1\n" in resumed
    assert path.read_bytes() != content  # its record has another time
    assert same_weights(load_model(model_id)[0], model)


def test_an_interrupted_overwrite_of_a_base_model_is_resumed(
    trained, run_here, done, data_files, undrawn, interrupt_second_epoch
):
    model = load_model(BASE)[0]
    flags = train_flags(data_files["grey"], "tiny")
    interrupt_second_epoch(training)
    assert run_here("main_train", *flags, "--overwrite").returncode == 130
    assert "resuming after epoch 1\n" in done("main_train", *flags, "--resume", "--overwrite")
    assert same_weights(load_model(BASE)[0], model)


def test_together_they_keep_what_the_command_has_finished(trained, done, data_files, undrawn):
    both = ("--resume", "--overwrite")
    flags = (*model_flags(data_files["grey"]), *UNLEARN)
    done("main_unlearn", *flags)
    files = {path: path.read_bytes() for path in trained.rglob("*.pt")}
    assert "finished already" in done("main_unlearn", *flags, *both)
    assert "finished already" in done("main_train", *train_flags(data_files["grey"], "tiny"), *both)
    masks = done("generate_mask", *model_flags(data_files["grey"]), *both)
    assert masks.count("exists already and is kept") == 4
    assert {path: path.read_bytes() for path in trained.rglob("*.pt")} == files


def test_together_they_replace_the_model_of_another_command(trained, done, data_files, undrawn):
    other = (*train_flags(data_files["grey"], "tiny"), "--epochs", "1")
    printed = done("main_train", *other, "--resume", "--overwrite")
    assert "no interrupted run to resume: training starts from scratch\n" in printed
    assert load_model(BASE)[1]["recipe"]["epochs"] == 1


def test_together_they_discard_the_interrupted_run_of_another_command(
    trained, run_here, done, data_files, undrawn, interrupt_second_epoch
):
    interrupt_second_epoch(training)
    flags = train_flags(data_files["grey"], "new")
    assert run_here("main_train", *flags).returncode == 130
    done("main_train", *flags, "--epochs", "1", "--resume", "--overwrite")
    assert load_model("new_best")[1]["recipe"]["epochs"] == 1


def test_a_comparison_keeps_a_finished_model_whose_overwrite_used_another_mask(
    trained, run_here, done, data_files, undrawn, interrupt_second_epoch
):
    request = ("--unlearn", "FT_with_SalUn", "--class_to_forget", "3")
    flags = (*model_flags(data_files["grey"]), *request)
    model_id = done("main_unlearn", *flags).split()[-1]
    path = trained / "model_weights" / f"{model_id}.pt"
    content = path.read_bytes()
    interrupt_second_epoch(loop)
    assert run_here("main_unlearn", *flags, "--overwrite").returncode == 130

    mask = trained / "SaliencyMaps" / BASE / "class_3.pt"
    saved = load_tensors(mask, "saliency map")
    other = {name: 101 - part for name, part in saved["percents"].items()}
    save_saliency_map(mask, SaliencyMap(other), ForgetRequest((3,)), saved["origin"])
    printed = done("main_compare", *flags)
    assert "FT_with_SalUn failed: seed 1: --resume: " in printed
    assert "another mask" in printed
    assert path.read_bytes() == content

"""Checkpoints come back as they were saved, tell their origin, and run no code."""

import errno
import os
import pickle
import random
import zipfile
from dataclasses import asdict

import pytest
import torch
import torchvision
from torch import nn

from models import checkpoint
from models.architectures import build_model, make_spec
from models.checkpoint import (
    delete_training_state,
    load_model,
    load_training_state,
    model_path,
    save_model,
    save_training_state,
    training_state_path,
    weights_digest,
)
from tests.helpers.small_net import SMALL_ARCH
from tests.helpers.tiny import SIZE, same_weights, tiny_model, tiny_set
from utils.runtime.errors import UserError
from utils.train.prediction import predict
from utils.train.recipe import Recipe
from utils.train.training import TrainingRun

RECORD = {
    "kind": "base",
    "dataset": "SynthBloodMNIST",
    "class_names": ["basophil", "Лейкоцит"],
    "recipe": asdict(Recipe(3, 0.01, 50)),
    "history": [{"val_loss": 0.1 + 0.2, "val_accuracy_percent": 1 / 3}],
    "nothing": None,
    "seed": 2**63 - 1,
}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def small_model(seed=1, **changes):
    arguments = {"arch": SMALL_ARCH, "num_classes": 4, "channels": 1, "input_size": SIZE}
    return build_model(make_spec(**(arguments | changes)), seed=seed)


def leftovers():
    return [path.name for path in model_path("any").parent.iterdir() if path.suffix != ".pt"]


# There and back


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"channels": 3, "num_classes": 9},
        {"arch": "shufflenet_v2_x0_5"},
        {"arch": "resnet18", "input_size": 28, "stem": "full"},
        {"arch": "squeezenet1_1", "input_size": 8},
        {"arch": "densenet121", "input_size": 28},
    ],
)
def test_a_model_comes_back_with_its_record(changes):
    model = small_model(**changes)
    path = save_model("first_best", model, RECORD)
    assert path == model_path("first_best")
    loaded, record = load_model("first_best")
    assert same_weights(loaded, model)
    assert loaded.spec == model.spec
    assert {key: record[key] for key in RECORD} == RECORD
    assert record["model_id"] == "first_best"
    assert record["weights_digest"] == weights_digest(model.network.state_dict())
    assert record["versions"]["torch"] == str(torch.__version__)
    assert record["saved_at"].startswith("20")
    assert not leftovers()


def test_predictions_come_back_bit_for_bit():
    model, images = small_model(), tiny_set(9)
    save_model("first", model, {})
    assert torch.equal(predict(load_model("first")[0], images), predict(model, images))


def test_a_pretrained_model_keeps_its_pixel_statistics():
    spec = make_spec("resnet18", 4, 1, 28, pretrained=True)
    model = build_model(spec, seed=1, initial_weights=False)
    save_model("pretrained", model, {})
    loaded, _ = load_model("pretrained")
    assert loaded.spec.pretrained and torch.equal(loaded.mean, model.mean)


def test_saving_again_replaces_the_model():
    save_model("first", small_model(seed=1), {})
    save_model("first", small_model(seed=2), {})
    assert same_weights(load_model("first")[0], small_model(seed=2))


def test_digests_tell_weights_apart():
    weights = small_model().network.state_dict()
    digest = weights_digest(weights)
    assert digest == weights_digest(dict(reversed(weights.items())))
    name = next(name for name, part in weights.items() if part.ndim == 4)
    nudged = weights[name].clone()
    nudged.view(-1)[0] = torch.nextafter(nudged.view(-1)[0], torch.tensor(9.0))
    for change in (nudged, weights[name].flatten(), weights[name].double()):
        assert weights_digest(weights | {name: change}) != digest
    renamed = {key + "_" * (key == name): part for key, part in weights.items()}
    assert weights_digest(renamed) != digest


# What is no model


def test_a_missing_model_is_named_and_the_nearest_with_it():
    with pytest.raises(UserError, match="there is no model model_weights/first.pt: train one"):
        load_model("first")
    save_model("first_best", small_model(), {})
    with pytest.raises(UserError, match="first_bset.pt .did you mean first_best"):
        load_model("first_bset")


@pytest.mark.parametrize("model_id", ["../first", "a/b", "", ".hidden", "a b", "x" * 201, "/etc/a"])
def test_ids_stay_in_their_folder(model_id):
    with pytest.raises(UserError, match="not a usable id"):
        save_model(model_id, small_model(), {})
    with pytest.raises(UserError, match="not a usable id"):
        load_model(model_id)


def altered(change):
    """The file of a saved model after `change` was made to its content."""
    path = save_model("first", small_model(), RECORD)
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def test_altered_weights_are_refused():
    def nudge(content):
        next(iter(content["weights"].values())).view(-1)[0] += 1e-6

    altered(nudge)
    with pytest.raises(UserError, match="damaged or altered: the weights are not those"):
        load_model("first")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("weights"),
        lambda content: content.pop("record"),
        lambda content: content["record"].pop("spec"),
        lambda content: content["record"].pop("weights_digest"),
        lambda content: content["record"]["spec"].update(num_classes=5),
        lambda content: content["record"]["spec"].update(arch="resnet18"),
        lambda content: content["record"]["spec"].update(arch="../x"),
        lambda content: content["record"]["spec"].update(arch="resnet18", stem="odd"),
        lambda content: content["record"]["spec"].pop("channels"),
        lambda content: content["weights"].popitem(),
        lambda content: content.update(weights=3),
        lambda content: content.update(record=[1]),
        lambda content: content["record"].update(spec=None),
    ],
)
def test_a_record_that_does_not_fit_is_refused(change):
    altered(change)
    with pytest.raises(UserError, match="first.pt is damaged: its record and its weights disagree"):
        load_model("first")


def test_damaged_files_are_refused_whatever_the_damage():
    """Cut anywhere, or with a few bytes changed: refused, or still whole where it matters."""
    model = small_model()
    path = save_model("first", model, RECORD)
    whole = path.read_bytes()
    draw = random.Random(1)
    places = [draw.randrange(len(whole)) for _ in range(15)]
    table = min(20_000, len(whole))  # of the file, at its end
    ends = [len(whole) - 1 - draw.randrange(table) for _ in range(25)]
    for cut in [0, 1, 100, *places, *ends]:
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError, match="first.pt"):
            load_model("first")
    for place in [*range(0, 2000, 40), *places, *ends]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            loaded, _ = load_model("first")
        except UserError as error:
            assert "first.pt" in str(error)
        else:
            assert same_weights(loaded, model)


@pytest.mark.parametrize(
    "content", [b"", b"<html>404</html>", b"PK\x03\x04", b"\x80\x04", bytes(99)]
)
def test_files_of_another_kind_are_refused(content):
    model_path("first").parent.mkdir()
    model_path("first").write_bytes(content)
    with pytest.raises(UserError, match="first.pt is cut short, damaged, or not a model"):
        load_model("first")


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"state_dict": {}},
        {"epoch": 3, "lr": 0.1},
        {"mask": torch.zeros(3)},
        {0: torch.zeros(3, 3), 1: torch.zeros(2, 2, 2, 2)},
        {"weight": torch.zeros(3, 3), "bias": torch.zeros(3)},
        [torch.zeros(3, 3)],
        torch.zeros(3, 3),
    ],
)
def test_files_of_other_tensors_are_refused(content):
    model_path("first").parent.mkdir()
    torch.save(content, model_path("first"))
    with pytest.raises(UserError, match="first.pt .*(not a model|no weights)"):
        load_model("first", arch="resnet18", input_size=28)


class Malicious:
    """Would make a folder as soon as it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("broken_in",)


@pytest.mark.parametrize("as_zip", [True, False])
def test_code_in_a_file_does_not_run(as_zip):
    model_path("first").parent.mkdir()
    content = {"format": checkpoint.FORMAT, "weights": {}, "record": Malicious()}
    if as_zip:
        torch.save(content, model_path("first"))
    else:
        model_path("first").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match="first.pt is cut short, damaged, or not a model"):
        load_model("first")
    assert not os.path.exists("broken_in")
    pickle.loads(pickle.dumps(Malicious()))  # it would have worked
    assert os.path.exists("broken_in")


# Bare weights


@pytest.mark.parametrize(
    ("arch", "stem", "wrapper", "prefix"),
    [
        *(
            (SMALL_ARCH, None, wrapper, prefix)
            for wrapper in (None, "state_dict", "model_state_dict", "model")
            for prefix in ("", "module.")
        ),
        ("resnet18", "imagenet", None, ""),
        ("resnet18", "pooled", None, ""),
        ("resnet18", "imagenet", "model", "module."),
        ("resnet18", "pooled", "model", "module."),
    ],
)
def test_bare_weights_load_with_arch_and_size(arch, stem, wrapper, prefix):
    model = build_model(make_spec(arch, 6, 1, 28, stem=stem), seed=4)
    weights = {prefix + name: part for name, part in model.network.state_dict().items()}
    content = {wrapper: weights, "epoch": 9} if wrapper else weights
    model_path("theirs").parent.mkdir()
    torch.save(content, model_path("theirs"))
    loaded, record = load_model("theirs", arch=arch, input_size=28)
    assert record == {}
    assert loaded.spec == model.spec
    assert same_weights(loaded, model)


def test_weights_that_torchvision_saved_load():
    network = torchvision.models.mobilenet_v3_small(num_classes=3)
    model_path("theirs").parent.mkdir()
    torch.save(network.state_dict(), model_path("theirs"))
    loaded, _ = load_model("theirs", arch="mobilenet_v3_small", input_size=64)
    assert (loaded.spec.num_classes, loaded.spec.channels) == (3, 3)
    assert same_weights(loaded.network, network)


def test_the_stem_of_bare_weights_can_be_named():
    model = build_model(make_spec("resnet18", 6, 3, 28, stem="full"), seed=4)
    model_path("theirs").parent.mkdir()
    torch.save(model.network.state_dict(), model_path("theirs"))
    loaded, _ = load_model("theirs", arch="resnet18", input_size=28, stem="full")
    assert loaded.spec == model.spec


def test_bare_weights_without_the_right_arch_are_refused():
    model_path("theirs").parent.mkdir()
    torch.save(small_model().network.state_dict(), model_path("theirs"))
    with pytest.raises(UserError, match="bare weights: describe .* with --arch and --input_size"):
        load_model("theirs")
    with pytest.raises(UserError, match="bare weights"):
        load_model("theirs", arch=SMALL_ARCH)
    with pytest.raises(UserError, match="no weights of --arch squeezenet1_1"):
        load_model("theirs", arch="squeezenet1_1", input_size=28)
    with pytest.raises(UserError, match="--arch shuflenet"):
        load_model("theirs", arch="shuflenet", input_size=28)


# Writing


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_failed_save_leaves_the_old_model_whole(monkeypatch, broken):
    path = save_model("first", small_model(seed=1), RECORD)
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, broken, full_disk)
    with pytest.raises(UserError, match="cannot write .*first.pt: No space left on device"):
        save_model("first", small_model(seed=2), RECORD)
    assert path.read_bytes() == before
    with pytest.raises(UserError, match="No space left"):
        save_model("second", small_model(seed=2), RECORD)
    assert not model_path("second").exists()
    assert not leftovers()


# Training states


ORIGIN = {"train_digest": "abc", "recipe": asdict(Recipe(2, 0.1, 5))}


def training_state():
    run = TrainingRun(tiny_model(dropout=0.2), tiny_set(12), tiny_set(4), Recipe(2, 0.01, 5))
    run.run(show=False)
    return run.state()


def test_a_training_state_comes_back():
    state = training_state()
    save_training_state("run", ORIGIN, state)
    back = load_training_state("run", ORIGIN)
    assert back.keys() == state.keys()
    assert same_weights(back["model"], state["model"])
    assert back["history"] == state["history"]
    assert torch.equal(back["order"], state["order"])
    delete_training_state("run")
    delete_training_state("run")
    assert load_training_state("run", ORIGIN) is None


def test_a_training_state_of_another_run_is_refused():
    save_training_state("run", ORIGIN, training_state())
    with pytest.raises(UserError, match=r"--resume: .* in epochs 2 \(not 3\): repeat"):
        load_training_state("run", ORIGIN | {"recipe": asdict(Recipe(3, 0.1, 5))})
    with pytest.raises(UserError, match="differs in the training images, epochs 2 \(not None\)"):
        load_training_state("run", {"train_digest": "x", "recipe": {}})


def test_an_altered_training_state_is_refused_and_an_earlier_one_read():
    state = training_state()
    save_training_state("run", ORIGIN, state)
    path = training_state_path("run")
    content = torch.load(path, weights_only=True)
    next(iter(content["state"]["model"].values())).view(-1)[0] += 1
    torch.save(content, path)
    with pytest.raises(UserError, match="run_resume.pt is damaged or altered: .*: start again"):
        load_training_state("run", ORIGIN)
    del content["digest"]
    torch.save(content, path)
    assert load_training_state("run", ORIGIN)["history"] == state["history"]


def test_an_interrupt_while_a_file_is_read_is_no_damage(monkeypatch):
    """zipfile refuses to close a file in the middle of a member, instead of the interrupt."""
    save_training_state("run", ORIGIN, training_state())
    begin, begun = zipfile.ZipFile.open, []

    def interrupted(archive, name, mode="r", **settings):
        part = begin(archive, name, mode, **settings)
        if mode == "w":
            begun.append(part)
            raise KeyboardInterrupt
        return part

    monkeypatch.setattr(zipfile.ZipFile, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_training_state("run", ORIGIN)
    assert begun


def test_a_model_is_no_training_state_and_the_other_way_round():
    save_model("run_resume", small_model(), {})
    with pytest.raises(UserError, match="is not a training state"):
        load_training_state("run", ORIGIN)
    save_training_state("run", ORIGIN, training_state())
    with pytest.raises(UserError, match="run_resume.pt is not a model"):
        load_model("run_resume")


def test_bare_weights_without_a_convolution_are_refused():
    model_path("theirs").parent.mkdir()
    torch.save(nn.Linear(4, 2).state_dict(), model_path("theirs"))
    with pytest.raises(UserError, match="theirs.pt"):
        load_model("theirs", arch="resnet18", input_size=28)

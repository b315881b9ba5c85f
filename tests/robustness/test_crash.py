"""A run killed at any moment leaves finished files intact and resumes to the same result."""

import json
import os
import random
import shutil
import signal
import time

import numpy as np
import pytest
import torch

from models.checkpoint import load_tensors
from tests.helpers.crashing import Crashing
from tests.helpers.environment import drawn_arrays
from tests.helpers.small_net import SMALL_ARCH

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs fork")

KILLS = 4  # of one run, before it may finish
TRAIN = ("--arch", SMALL_ARCH, "--epochs", "3", "--batch_size", "12")
FORGET = ("--class_to_forget", "1", "--unlearn_epochs", "2", "--unlearn_batch_size", "12")
RUNS = {  # script, flags, and whether it needs --resume to continue
    "train": ("main_train", ("--save_model_id", "new", *TRAIN), True),
    "shards": ("main_train", ("--save_model_id", "new", *TRAIN, "--sisa_shards", "2"), True),
    "masks": ("generate_mask", ("--model_id", "tiny_best"), True),
    **{
        method: ("main_unlearn", ("--model_id", "tiny_best", "--unlearn", method, *FORGET), True)
        for method in ("RL_with_SalUn", "SCRUB_R", "UAM", "MUMis", "NegMerge", "AMUN", "Retrain")
    },
    "IU": ("main_unlearn", ("--model_id", "tiny_best", "--unlearn", "IU", *FORGET[:2]), True),
    "compare": (
        "main_compare",
        ("--model_id", "tiny_best", "--unlearn", "NegGradPlus_with_SalUn", *FORGET[:2]),
        False,
    ),
    "attack": (
        "main_mia",
        ("--model_id", "tiny_best", "--shadow_models", "4", *FORGET[:2]),
        False,
    ),
}


@pytest.fixture(scope="module")
def crashing():
    with Crashing() as process:
        yield process


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, crashing):
    """Return a folder with a data file, a base model, and the mask of one class."""
    folder = tmp_path_factory.mktemp("prepared")
    sizes = {"train": 48, "val": 20, "test": 16}
    np.savez(folder / "data.npz", **drawn_arrays(sizes=sizes))
    common = ("--dataset", "data.npz", "--device", "cpu")
    train = ("--save_model_id", "tiny", *TRAIN[:2], "--epochs", "2", "--batch_size", "12")
    for script, *flags in (
        ("main_train", *train),
        ("generate_mask", "--model_id", "tiny_best", "--class_to_forget", "1"),
    ):
        done = crashing.run(folder, script, *flags, *common)
        assert done["code"] == 0, done
    return folder


def flags_of(name):
    script, flags, needs_resume = RUNS[name]
    common = ("--dataset", "data.npz", "--device", "cpu")
    return script, (*flags, *common), (("--resume",) if needs_resume else ())


def files_in(folder):
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


def assert_intact(folder, before):
    """Check that every finished file can be read, and that files of `before` are unchanged."""
    for name, path in files_in(folder).items():
        if path.name.startswith("."):
            continue
        if name in before:
            assert path.read_bytes() == before[name], name
        elif path.suffix == ".pt":
            load_tensors(path, "file")
        elif path.suffix == ".json":
            json.loads(path.read_bytes())


def tensors_in(content):
    """Return all tensors of a nested dict by path; records also hold times, which differ."""
    if torch.is_tensor(content):
        return {"": content}
    if not isinstance(content, dict):
        return {}
    return {
        f"{key}/{path}": tensor
        for key, part in content.items()
        for path, tensor in tensors_in(part).items()
    }


def figures_in(content):
    """Return the content of a results file without times and the command."""
    if not isinstance(content, dict):
        return content
    ignored = ("seconds", "command")
    return {key: figures_in(part) for key, part in content.items() if key not in ignored}


def assert_same_result(folder, whole):
    assert files_in(folder).keys() == files_in(whole).keys()
    for name, path in files_in(whole).items():
        if path.suffix == ".pt":
            found, expected = (tensors_in(load_tensors(f / name, "file")) for f in (folder, whole))
            assert found.keys() == expected.keys()
            assert expected
            assert all(torch.equal(found[key], expected[key]) for key in expected), name
        elif path.suffix == ".json":
            found, expected = (json.loads((f / name).read_bytes()) for f in (folder, whole))
            assert figures_in(found) == figures_in(expected)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_killed_several_times_ends_like_one_that_was_not(name, crashing, prepared, tmp_path):
    """Each kill comes before a random file operation, or at a random time of the run."""
    script, flags, resume = flags_of(name)
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    for place in (whole, folder):
        shutil.copytree(prepared, place)
    before = {each: path.read_bytes() for each, path in files_in(prepared).items()}
    start = time.monotonic()
    uninterrupted = crashing.run(whole, script, *flags)
    seconds, events = time.monotonic() - start, uninterrupted["events"]
    assert uninterrupted["code"] == 0, uninterrupted
    assert events > 8
    rng, killed = random.Random(name), 0
    while killed < KILLS:
        more = resume if killed else ()
        moment = {"event": rng.randint(1, events)}
        if killed % 2:
            moment = {"seconds": rng.uniform(0.01, seconds)}
        run = crashing.run(folder, script, *flags, *more, **moment)
        if run["code"] == 0:  # too little work was left: start from the beginning
            shutil.rmtree(folder)
            shutil.copytree(prepared, folder)
            run = crashing.run(folder, script, *flags, event=rng.randint(1, events))
        assert run["code"] == -signal.SIGKILL, run
        killed += 1
        assert_intact(folder, before)
    finished = crashing.run(folder, script, *flags, *resume)
    assert finished["code"] == 0, finished
    assert_same_result(folder, whole)

"""Folders with models to evaluate; no test here draws a picture."""

import shutil

import pytest

from tests.helpers.environment import FORGOTTEN, TRAIN, UNLEARN, model_flags
from tests.helpers.output import results_of
from tests.scripts.evaluation.shared import (
    EVERYTHING,
    HASTY,
    RETRAINS,
    SHADOWS,
    inside,
    run_quietly,
)


@pytest.fixture(autouse=True)
def without_pictures(undrawn):
    """Leave the files of pictures empty."""


@pytest.fixture(scope="session")
def family_folder(trained_folder, tmp_path_factory, data_files):
    """The trained folder with three Retrains and two more models of the same method."""
    folder = tmp_path_factory.mktemp("family")
    shutil.copytree(trained_folder, folder, dirs_exist_ok=True)
    with inside(folder):
        flags = model_flags(data_files["grey"])
        for seed in (1, 2, 3):
            for options in (
                ("--unlearn", "Retrain", "--class_to_forget", "3"),
                (*UNLEARN, "--unlearn_epochs", "1"),
            ):
                run_quietly("main_unlearn", *flags, *options, "--seed", seed, "--overwrite")
    return folder


@pytest.fixture
def family(family_folder, workplace):
    """The current folder, with a copy of the family."""
    shutil.copytree(family_folder, workplace, dirs_exist_ok=True)
    return workplace


@pytest.fixture
def couple(family):
    """The same with one Retrain alone."""
    for name in RETRAINS[1:]:
        (family / "model_weights" / f"{name}.pt").unlink()
    return family


@pytest.fixture
def grey(data_files):
    return data_files["grey"]


@pytest.fixture(scope="session")
def measured(family_folder, data_files):
    """(printed, results) of a test with all Retrains and models of other seeds."""
    with inside(family_folder):
        flags = model_flags(data_files["grey"], FORGOTTEN)
        printed = run_quietly("main_test_unlearn", *flags, *EVERYTHING)
        results = results_of(FORGOTTEN)
        shutil.rmtree("results")
        shutil.rmtree(f"pics/{FORGOTTEN}")
    return printed, results


@pytest.fixture
def in_family(family_folder, monkeypatch):
    """The family's own folder, to read its models in."""
    monkeypatch.chdir(family_folder)


@pytest.fixture(scope="session")
def multi_folder(tmp_path_factory, data_files):
    """A base model of the multi-label set, and two that forgot finding 1."""
    folder = tmp_path_factory.mktemp("multi")
    data = ("--dataset", data_files["multi"], "--device", "cpu")
    with inside(folder):
        run_quietly(
            "main_train",
            "--save_model_id",
            "multi",
            *data,
            *TRAIN,
            "--epochs",
            "2",
            "--lr",
            "0.001",
            "--seed",  # with 1, Retrain's few images overflow by some versions' rounding
            "2",
        )
        for method in ("FT", "Retrain"):
            options = ("--unlearn", method, "--class_to_forget", "1")
            run_quietly("main_unlearn", "--model_id", "multi_best", *data, *options)
    return folder


@pytest.fixture
def multi(multi_folder, workplace):
    shutil.copytree(multi_folder, workplace, dirs_exist_ok=True)
    return workplace


@pytest.fixture(scope="session")
def hasty_folder(tmp_path_factory, data_files):
    """Models that were trained for one epoch, as their shadow models then are; one was attacked."""
    folder = tmp_path_factory.mktemp("hasty")
    data = ("--dataset", data_files["grey"], "--device", "cpu")
    base = ("--model_id", "hasty_best", *data)
    with inside(folder):
        run_quietly("main_train", "--save_model_id", "hasty", *data, *TRAIN, "--epochs", "1")
        run_quietly("generate_mask", *base, "--class_to_forget", "3")
        run_quietly("main_unlearn", *base, *UNLEARN, "--unlearn_epochs", "1")
        run_quietly("main_unlearn", *base, "--unlearn", "Retrain", "--class_to_forget", "3")
        run_quietly("main_mia", "--model_id", HASTY, *data, *SHADOWS)
    return folder


@pytest.fixture
def hasty(hasty_folder, workplace):
    """The current folder, with a copy of it."""
    shutil.copytree(hasty_folder, workplace, dirs_exist_ok=True)
    return workplace


@pytest.fixture
def unattacked(hasty):
    """The same without what the attack has left."""
    shutil.rmtree(hasty / "results")
    shutil.rmtree(hasty / "model_weights" / "shadows")
    return hasty

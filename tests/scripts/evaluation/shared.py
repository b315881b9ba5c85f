"""Ids of models, and ways to run, read and watch the scripts that evaluate."""

import contextlib
import csv
import importlib
import io

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from models.checkpoint import load_model, save_model
from tests.helpers.environment import BASE, FORGOTTEN, model_flags
from tests.helpers.output import check_plain, results_of
from tests.helpers.reference import arrays_of, predictions, softmax
from utils.train.training import TrainingRun

RETRAIN = f"{BASE}_FORGOTTEN_3_RETRAIN_unlearnEpochs6_unlearnlr01"
SECOND_RETRAIN, THIRD_RETRAIN = (f"{RETRAIN}_seed-{seed}" for seed in (2, 3))
RETRAINS = RETRAIN, SECOND_RETRAIN, THIRD_RETRAIN
PEERS = f"{FORGOTTEN}_seed-2", f"{FORGOTTEN}_seed-3"
EVERYTHING = ("--retrain_model_id", *RETRAINS, "--seed_model_id", *PEERS)
GAPS = (
    *("unlearn_accuracy_percent", "remaining_accuracy_percent", "test_accuracy_percent"),
    "mia_efficacy_percent",
)
MULTI = "multi_best_FORGOTTEN_1_FT_unlearnEpochs5_unlearnlr03"
MULTI_RETRAIN = "multi_best_FORGOTTEN_1_RETRAIN_unlearnEpochs2_unlearnlr001"
HASTY = "hasty_best_FORGOTTEN_3_RL_WITH_SALUN_mask5_unlearnEpochs1_unlearnlr001"
HASTY_RETRAIN = "hasty_best_FORGOTTEN_3_RETRAIN_unlearnEpochs1_unlearnlr01"
SHADOWS = ("--shadow_models", "4")


def run_quietly(script, *flags):
    """What a script prints that is run in this process; for fixtures of a whole module."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        importlib.import_module(script).main([str(flag) for flag in flags])
    return printed.getvalue()


@contextlib.contextmanager
def inside(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("utils.plots.saving.png_bytes", lambda figure, **kwargs: b"")
        yield


def changed_copy(model_id, copy_id, weights=1e-3, **changes):
    """Save a model under another id with other words in its record, and `weights` as a bias."""
    model, record = load_model(model_id)
    with torch.no_grad():
        model.network.fc.bias[0] += weights
    save_model(copy_id, model, {**record, **changes})
    return copy_id


def attack_auc(model_id, data, unseen):
    scores = [loss_scores(model_id, data, split) for split in ("train", unseen)]
    return roc_auc_score(np.repeat([1, 0], list(map(len, scores))), np.concatenate(scores))


def loss_scores(model_id, data, split):
    """log p of its class of each image of class 3."""
    logits, labels = predictions(model_id, data, split)
    return np.log(softmax(logits)[labels == 3, 3])


def forbid_training(monkeypatch):
    def no_training(*args, **kwargs):
        raise AssertionError("nothing has to be trained")

    monkeypatch.setattr("evaluation.shadows.TrainingRun", no_training)
    monkeypatch.setattr("unlearn.engine.loop.train_epoch", no_training)
    monkeypatch.setattr("models.shards.TrainingRun", no_training)


def attacked(name):
    """(results, queries, ratios): of the files of an attack; queries: [(split, row), ...]."""
    results = results_of(name, "_mia")
    check_plain(results)
    with open(f"results/{name}_mia.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["split", "image", "log_likelihood_ratio"]
    ratios = np.array([float(row[2]) for row in rows])
    assert (np.diff(ratios) <= 0).all()  # the one most likely remembered first
    return results, [(split, int(row)) for split, row, _ in rows], ratios


def rows_of(data, split, number=3):
    labels = arrays_of(data, split)[1]
    return [(split, row) for row in np.flatnonzero(labels == number)]


def check_figures(results, queries, ratios):
    members = np.array([split == "train" for split, _ in queries])
    auc = roc_auc_score(members, ratios)
    assert results["ulira_auc"] == pytest.approx(auc, abs=5e-3)  # ratios are rounded, to ties
    right = [(ratios[members] > 0).mean(), (ratios[~members] <= 0).mean()]
    assert results["ulira_accuracy_percent"] == pytest.approx(50 * sum(right), abs=0.5)


def mia_flags(data, model_id):
    """In the order in which the fixture gave them: the command is in the results."""
    return (*model_flags(data, model_id), *SHADOWS)


def count_trainings(monkeypatch, stop_at=None):
    """The list of what was trained from now on: (train set, val set, recipe); Ctrl-C at one."""
    seen = []

    class Seen(TrainingRun):
        def __init__(self, model, train_set, val_set, recipe):
            super().__init__(model, train_set, val_set, recipe)
            if len(seen) == stop_at:
                raise KeyboardInterrupt
            seen.append((train_set, val_set, recipe))

    monkeypatch.setattr("evaluation.shadows.TrainingRun", Seen)
    return seen


def files_of_the_attack(folder):
    return {path.name: path.read_bytes() for path in (folder / "results").iterdir()}

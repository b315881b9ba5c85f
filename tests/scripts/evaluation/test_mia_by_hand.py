"""main_mia.py: shadow models and ratios against a second computation."""

from pathlib import Path

import numpy as np
import torch
from scipy.stats import norm

import evaluation.shadows
from models.architectures import ModelSpec, build_model
from models.checkpoint import load_model
from tests.helpers.reference import arrays_of, model_predictions
from tests.scripts.evaluation.shared import (
    HASTY,
    attacked,
    check_figures,
    count_trainings,
    mia_flags,
    rows_of,
)
from unlearn.request.request import ForgetRequest
from unlearn.saliency import compute_mask


def test_the_attack_on_a_base_model_by_hand(unattacked, done, grey, monkeypatch):
    """Plain LiRA: each shadow's training images, and every ratio from the shadows' own weights."""
    trained = count_trainings(monkeypatch)
    done("main_mia", *mia_flags(grey, "hasty_best"), "--class_to_forget", "3")
    results, queries, ratios = attacked("hasty_best_3")
    assert sorted(queries) == sorted(rows_of(grey, "train") + rows_of(grey, "val"))
    check_figures(results, queries, ratios)
    assert "retrain_ulira_auc" in results
    ordered = rows_of(grey, "train") + rows_of(grey, "val")
    where = dict(zip(ordered, shadow_ratios(grey, ordered, trained), strict=True))
    wanted = np.array([where[query] for query in queries])
    np.testing.assert_allclose(ratios, wanted, rtol=2e-3, atol=2e-3)
    assert len({recipe.seed for _, _, recipe in trained}) == 4
    for _, val_set, recipe in trained:
        assert (recipe.epochs, recipe.lr, recipe.batch_size) == (1, 0.01, 8)
        assert 3 not in val_set.labels  # these images are the queries


def shadow_ratios(data, queries, trained):
    """Log likelihood ratios of the queries of class 3, image by image, of hasty_best."""
    train, val = arrays_of(data, "train"), arrays_of(data, "val")
    pool = np.concatenate([train[0], val[0]])
    rows = [row + (len(train[0]) if split == "val" else 0) for split, row in queries]
    model, record = load_model("hasty_best")
    target = query_margins(model, data)
    seen, found = [], []
    for number, (train_set, _, _) in enumerate(trained):
        [path] = Path("model_weights/shadows").glob(f"*/{number:03d}.pt")
        shadow = build_model(ModelSpec(**record["spec"]), initial_weights=False)
        shadow.network.load_state_dict(torch.load(path, weights_only=True)["weights"])
        found.append(query_margins(shadow, data))
        images = train_set.images[train_set.indices].permute(0, 2, 3, 1).numpy()
        known = {image.tobytes() for image in images}
        assert len(known) == len(images) == (train[1] != 3).sum() + len(rows) // 2
        retained = {image.tobytes() for image in train[0][train[1] != 3]}
        assert retained < known
        seen.append([pool[row].tobytes() in known for row in rows])
        assert sum(seen[-1]) == len(known) - len(retained) == len(rows) // 2
    seen, found = np.array(seen), np.array(found)
    assert (seen.sum(0) == 2).all()
    spreads = []
    for kind in (seen, ~seen):
        away = [
            found[m, i] - found[kind[:, i], i].mean()
            for i in range(len(rows))
            for m in np.flatnonzero(kind[:, i])
        ]
        spreads.append(np.sqrt(np.square(away).sum() / (len(away) - len(rows))))
    return [
        norm.logpdf(target[i], found[seen[:, i], i].mean(), spreads[0])
        - norm.logpdf(target[i], found[~seen[:, i], i].mean(), spreads[1])
        for i in range(len(rows))
    ]


def query_margins(model, data):
    """Of all images of class 3, training before val images."""
    logits = []
    for split in ("train", "val"):
        found, labels = model_predictions(model, data, split)
        logits.append(found[labels == 3])
    logits = np.concatenate(logits).astype(float)
    others = np.delete(logits, 3, 1)
    return logits[:, 3] - np.log(np.exp(others - others.max(1)[:, None]).sum(1)) - others.max(1)


def test_shadow_models_forget_by_the_tested_models_method(unattacked, done, grey, monkeypatch):
    """Each what it was trained on of the queries, with the recorded settings and its own mask."""
    trained, forgotten = count_trainings(monkeypatch), []
    method = evaluation.shadows.METHODS["RL_with_SalUn"]

    def run(model, forget_set, retain_set, config):
        forgotten.append((forget_set, retain_set, config))
        own = compute_mask(model, forget_set, ForgetRequest((3,)), 0.5).changeable
        assert all(torch.equal(own[name], config.mask.changeable[name]) for name in own)
        return method.run(model, forget_set, retain_set, config)

    spied = evaluation.shadows.replace(method, run=run)
    monkeypatch.setattr("evaluation.shadows.METHODS", {"RL_with_SalUn": spied})
    done("main_mia", *mia_flags(grey, HASTY), "--non_members", "test")
    results, queries, ratios = attacked(HASTY)
    assert sorted(queries) == sorted(rows_of(grey, "train") + rows_of(grey, "test"))
    check_figures(results, queries, ratios)
    assert len(trained) == len(forgotten) == 4
    for (train_set, val_set, _), (forget_set, retain_set, config) in zip(
        trained, forgotten, strict=True
    ):
        assert set(forget_set.labels.tolist()) == {3}
        assert len(forget_set) == len(queries) // 2
        whole = sorted(forget_set.indices.tolist() + retain_set.indices.tolist())
        assert sorted(train_set.indices.tolist()) == whole
        assert sorted(retain_set.indices.tolist()) == [
            row for row in range(96) if arrays_of(grey, "train")[1][row] != 3
        ]
        recipe = config.recipe
        assert (recipe.epochs, recipe.lr, recipe.batch_size) == (1, 0.001, 100)
        assert 0.49 < config.mask.fraction() < 0.51
        assert len(val_set) == 32  # val images are no queries here
    pairs = [set(forget_set.indices.tolist()) for forget_set, _, _ in forgotten]
    assert pairs[0].isdisjoint(pairs[1]) and pairs[2].isdisjoint(pairs[3])
    assert len({config.recipe.seed for _, _, config in forgotten}) == 4
    masks = [config.mask.changeable["network.fc.weight"] for _, _, config in forgotten]
    assert not torch.equal(masks[0], masks[1])

"""main_mia.py: damaged shadow models and requests that cannot be attacked."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.checkpoint import save_with_digest
from tests.helpers.environment import drawn_arrays, model_flags
from tests.scripts.evaluation.shared import HASTY, files_of_the_attack, mia_flags


def cut_short(path):
    path.write_bytes(path.read_bytes()[:500])


def of_another_attack(path):
    content = torch.load(path, weights_only=True)
    content["origin"]["seed"] = 7
    torch.save(content, path)


def of_no_format(path):
    torch.save({"margins": torch.zeros(32)}, path)


def altered(path):
    content = torch.load(path, weights_only=True)
    tensors = content["weights"].values() if "weights" in content else [content["margins"]]
    next(iter(tensors)).view(-1)[0] += 1
    torch.save(content, path)


def of_another_shape(path):
    content = torch.load(path, weights_only=True)
    del content["digest"]
    kind = "weights" if "weights" in content else "margins"
    save_with_digest(path, content | {kind: torch.zeros(3)})


@pytest.mark.parametrize(
    "damage", [cut_short, of_another_attack, of_no_format, altered, of_another_shape]
)
@pytest.mark.parametrize("kind", ["unlearned", "trained"])
def test_a_damaged_shadow_model(hasty, refused, done, grey, damage, kind):
    [folder] = (hasty / "model_weights" / "shadows").iterdir()
    [unlearned] = folder.glob("001_*.pt")
    path = {"unlearned": unlearned, "trained": folder / "001.pt"}[kind]
    damage(path)
    if kind == "trained":
        done("main_mia", *mia_flags(grey, HASTY))  # it is not looked at while the other is there
        unlearned.unlink()
    what = "(cut short, .*shadow model|no shadow model|damaged or altered)"
    message = f"model_weights/shadows/{folder.name}/{path.name} is {what}"
    assert refused(message, "main_mia", *mia_flags(grey, HASTY)) == []
    path.unlink()
    before = files_of_the_attack(hasty)
    done("main_mia", *mia_flags(grey, HASTY))
    assert files_of_the_attack(hasty) == before


def test_a_class_that_no_attack_can_ask_about(hasty, refused, grey):
    arrays = drawn_arrays()
    keep = arrays["val_labels"][:, 0] != 3
    arrays |= {f"val_{part}": arrays[f"val_{part}"][keep] for part in ("images", "labels")}
    np.savez("gap.npz", **arrays)
    message = "the request covers no val image: there is nothing to attack"
    assert refused(message, "main_mia", *mia_flags("gap.npz", HASTY)) == []


def test_too_few_images_to_attack_are_refused_before_any_shadow_model(trained, refused, grey):
    Path("one.txt").write_text("7\n")
    message = "1 image of the request, and the minimum is 5: there is too little to attack"
    options = ("--forget_indices", "one.txt", "--shadow_models", "4")
    assert refused(message, "main_mia", *model_flags(grey), *options) == []

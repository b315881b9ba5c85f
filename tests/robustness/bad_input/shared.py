"""What the tests of bad input share: flags of the scripts, and damaged files."""

import json
from pathlib import Path

import numpy as np
import torch

from tests.helpers.environment import UNLEARN_ONCE, model_flags

READERS = ("main_test", "generate_mask", "main_unlearn", "main_test_unlearn", "main_mia")
CLASS = ("--class_to_forget", "3")
SETTINGS = {  # flags that a script of READERS needs in addition
    "main_unlearn": UNLEARN_ONCE,
    "main_test_unlearn": CLASS,
    "main_mia": (*CLASS, "--shadow_models", "4"),
}


def unlearn_flags(data, *changes):
    return (*model_flags(data), *UNLEARN_ONCE, *changes)


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_to_nothing(path):
    path.write_bytes(b"")


def random_bytes(path):
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def a_json_file(path):
    path.write_text(json.dumps({"weights": [1, 2, 3]}))


def one_tensor(path):
    torch.save(torch.zeros(3), path)


def no_weights(path):
    torch.save({"epochs": 3, "name": "x"}, path)


def weights_without_convolution(path):
    torch.save({"fc.weight": torch.zeros(4, 10), "fc.bias": torch.zeros(4)}, path)


def weights_under_numbers(path):
    torch.save({1: torch.zeros(4, 1, 3, 3)}, path)


def altered_weights(path):
    content = torch.load(path, weights_only=True)
    content["weights"]["fc.bias"][0] += 1
    torch.save(content, path)


def altered_bytes(path):
    whole = bytearray(path.read_bytes())
    bias = torch.load(path, weights_only=True)["weights"]["fc.weight"]
    at = whole.index(bias.numpy().tobytes())
    whole[at] ^= 1
    path.write_bytes(whole)


def weights_missing(path):
    content = torch.load(path, weights_only=True)
    del content["weights"]["fc.bias"]
    torch.save(content, path)


def record_missing(path):
    content = torch.load(path, weights_only=True)
    torch.save({"format": content["format"], "weights": content["weights"]}, path)


def weights_of_another_architecture(path):
    content = torch.load(path, weights_only=True)
    content["record"]["spec"]["arch"] = "squeezenet1_1"
    torch.save(content, path)


class Bomb:
    """An object whose unpickling writes a file."""

    def __reduce__(self):
        return Path.write_text, (Path("exploded"), "boom")

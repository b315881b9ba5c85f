"""Model ids are those of the walkthrough, can be parsed, and differ for different requests."""

import random

import pytest

from unlearn.model_ids import (
    decode_number,
    encode_number,
    parse_unlearned_model_id,
    unlearned_model_id,
)
from unlearn.registry import METHODS
from utils.io.files import check_id

WALKTHROUGH_ID = (
    "example_blood_model_best_FORGOTTEN_3_RL_WITH_SALUN_mask5_unlearnEpochs5_unlearnlr001"
)
BASES = [
    "example_blood_model_best",
    "a",
    "my_FORGOTTEN_model",
    "x_FORGOTTEN_1_RL_best",
    "_".join(["mask5", "unlearnEpochs5", "unlearnlr001"]),
    "run-2.1_FORGOTTEN_3_GA_unlearnEpochs5_unlearnlr0001_last",
    WALKTHROUGH_ID,
]
FORGOTTEN_PARTS = [
    *("0", "1", "3", "10", "13", "3-5", "3-5-13", "35", "f1-s1", "f1p0-s1", "f11-s1", "f1-s11"),
    *("3-f1-s1", "3-5-f25-s2", "samples-0123456789ab", "samples-000000000001"),
]


def random_settings(draw):
    """Return random arguments of unlearned_model_id."""
    method = METHODS[draw.choice(list(METHODS))]
    others = {
        "batch": draw.choice([1, 10, 50, 100]),
        "optim": draw.choice(["adam", "adamw"]),
        "decay": draw.choice([0.0, 0.5, 0.05, 1.0, 5e-4, 1e-10]),
        "seed": draw.choice([0, 2, 2**63 - 1]),
    }
    kept = [name for name in others if draw.random() < 0.3]
    rate = draw.choice(
        [draw.random(), draw.choice([1.0, 2.5, 10.0, 100.0]), 10 ** -draw.uniform(0, 12)]
    )
    return {
        "base": draw.choice(BASES),
        "forgotten": draw.choice(FORGOTTEN_PARTS),
        "method_id": method.id,
        "epochs": draw.choice([1, 5, 10, 15, 50]),
        "lr": rate if draw.random() < 0.5 else draw.choice([0.1, 0.01, 0.001, 1.0]),
        "mask_thresh": draw.randint(1, 100) / 100 if method.uses_mask else None,
        "others": tuple((name, others[name]) for name in kept),
    }


def test_the_id_of_the_walkthrough():
    model_id = unlearned_model_id(
        "example_blood_model_best", "3", "RL_with_SalUn", 5, 0.001, mask_thresh=0.5
    )
    assert model_id == WALKTHROUGH_ID
    assert parse_unlearned_model_id(WALKTHROUGH_ID) == {
        "base": "example_blood_model_best",
        "forgotten": "3",
        "method": "RL_WITH_SALUN",
        "mask_thresh": 0.5,
        "epochs": 5,
        "lr": 0.001,
        "others": {},
    }


def test_no_mask_part_without_a_mask():
    model_id = unlearned_model_id("base", "0", "Retrain", 50, 0.01)
    assert model_id == "base_FORGOTTEN_0_RETRAIN_unlearnEpochs50_unlearnlr01"


@pytest.mark.parametrize(
    ("number", "digits"),
    [(0.5, "5"), (0.25, "25"), (0.05, "05"), (0.001, "001"), (1e-5, "00001"), (0.1, "1")],
)
def test_encoded_numbers(number, digits):
    assert encode_number(number) == digits


def test_encoded_numbers_are_decoded_and_distinct():
    draw = random.Random(1)
    numbers = {0.0, 0.1, 0.01, 0.001, 1.0, 10.0, 100.0, 1.5, 15.0, 0.15, 1.05, 5e-324, 1 / 3}
    numbers |= {draw.random() * 10 ** draw.randint(-20, 2) for _ in range(2000)}
    digits = {number: encode_number(number) for number in numbers}
    assert all(decode_number(text) == number for number, text in digits.items())
    assert len(set(digits.values())) == len(numbers)


def test_parsing_returns_the_settings():
    draw = random.Random(2)
    for _ in range(2000):
        settings = random_settings(draw)
        model_id = unlearned_model_id(**settings)
        parts = parse_unlearned_model_id(model_id)
        assert parts is not None, model_id
        others = parts.pop("others")
        assert parts == {
            "base": settings["base"],
            "forgotten": settings["forgotten"],
            "method": settings["method_id"].upper(),
            "mask_thresh": settings["mask_thresh"],
            "epochs": settings["epochs"],
            "lr": settings["lr"],
        }
        for name, value in settings["others"]:
            read = others.pop(name)
            assert (decode_number(read) if name == "decay" else read) == (
                value if name == "decay" else str(value)
            )
        assert not others


def test_different_requests_have_different_ids():
    draw = random.Random(3)
    by_id = {}
    for _ in range(20000):
        settings = random_settings(draw)
        model_id = unlearned_model_id(**settings)
        assert by_id.setdefault(model_id, settings) == settings
    assert len(by_id) > 10000


def test_letter_case_of_the_method_is_ignored():
    ids = {
        unlearned_model_id("base", "3", method, 5, 0.001, 0.5)
        for method in ("RL_with_SalUn", "rl_with_salun", "RL_WITH_SALUN")
    }
    assert len(ids) == 1


def test_ids_are_valid_file_names():
    draw = random.Random(4)
    for _ in range(200):
        settings = random_settings(draw) | {"base": "base"}
        check_id(unlearned_model_id(**settings), "--model_id")


@pytest.mark.parametrize(
    "model_id",
    [
        "example_blood_model_best",
        "base_FORGOTTEN_3",
        "_FORGOTTEN_3_RL_unlearnEpochs5_unlearnlr001",
        "base_FORGOTTEN_x_RL_unlearnEpochs5_unlearnlr001",
        "base_FORGOTTEN_3_RL_unlearnEpochs5",
        "base_FORGOTTEN_3-_RL_unlearnEpochs5_unlearnlr001",
        "base_FORGOTTEN_f1_RL_unlearnEpochs5_unlearnlr001",
        "base_FORGOTTEN_samples-xyz_RL_unlearnEpochs5_unlearnlr001",
        WALKTHROUGH_ID + "_best",
        "",
    ],
)
def test_other_ids_are_not_parsed(model_id):
    assert parse_unlearned_model_id(model_id) is None

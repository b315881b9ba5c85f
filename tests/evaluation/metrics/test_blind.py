"""Without a model, images of one kind cannot be separated, and brighter ones can."""

import numpy as np
import pytest
import torch

from evaluation.figure import Figure
from evaluation.metrics.blind import blind_attack, control_warnings
from evaluation.settings import FOLDS
from tests.evaluation.contexts import make_context
from unlearn.request.request import ForgetRequest
from utils.data.datasets import ImageSet


def noise(count, seed, *, side=8, channels=1, brighter=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, channels, side, side)
    images = torch.randint(0, 200, shape, generator=generator, dtype=torch.uint8) + brighter
    return ImageSet.from_tensors(images, torch.zeros(count, dtype=int))


def black_or_white(count, seed):
    generator = torch.Generator().manual_seed(seed)
    images = 255 * torch.randint(0, 2, (count, 1, 1, 1), generator=generator, dtype=torch.uint8)
    return ImageSet.from_tensors(images.repeat(1, 1, 8, 8), torch.zeros(count, dtype=int))


@pytest.mark.parametrize("draw", [noise, black_or_white])  # the second makes ties of most scores
def test_images_of_one_kind_cannot_be_separated(draw):
    found = [blind_attack(draw(100, 2 * seed), draw(40, 2 * seed + 1), seed) for seed in range(40)]
    assert sum(auc.low <= 0.5 <= auc.high for auc in found) >= 36
    assert np.mean([auc.value for auc in found]) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 64])
def test_brighter_images_can(side, channels):
    kind = {"side": side, "channels": channels}
    members, others = noise(60, 0, **kind, brighter=40), noise(40, 1, **kind)
    auc = blind_attack(members, others)
    assert auc.value > 0.95 and auc.low > 0.9
    assert blind_attack(others, members).value > 0.95
    alike = [blind_attack(noise(60, seed, **kind), others) for seed in range(10, 18)]
    assert sum(auc.low <= 0.5 <= auc.high for auc in alike) >= 6


def test_different_layout_can_at_equal_brightness():
    members, others = noise(60, 0), noise(60, 1)
    members.images[:, :, :4] += 40
    others.images[:, :, 4:] += 40
    assert blind_attack(members, others).value > 0.95


def test_same_seed_same_figure():
    sets = noise(30, 0), noise(30, 1)
    assert blind_attack(*sets, seed=3) == blind_attack(*sets, seed=3)
    assert blind_attack(*sets, seed=3) != blind_attack(*sets, seed=4)


def test_a_view_is_judged_by_its_own_images():
    bright, dark = noise(40, 0, brighter=40), noise(40, 1)
    both = ImageSet.from_tensors(
        torch.cat([bright.images, dark.images]), torch.zeros(80, dtype=int)
    )
    halves = torch.arange(80) < 40
    assert blind_attack(both.subset(halves), both.subset(~halves)) == blind_attack(bright, dark)


@pytest.mark.parametrize("few", [0, 1, FOLDS - 1])
def test_too_few_images_are_a_reason(few):
    assert "and the minimum is 5" in blind_attack(noise(few, 0), noise(30, 1)).why_undefined
    assert "non-member" in blind_attack(noise(30, 0), noise(few, 1)).why_undefined
    assert blind_attack(noise(FOLDS, 0, brighter=50), noise(FOLDS, 1)).is_defined


def test_images_that_differ_without_a_model_are_warned_of():
    high, low, none = Figure(0.8, 0.7, 0.9), Figure(0.2, 0.1, 0.3), Figure(0.5, 0.4, 0.6)
    keys = ("attack_blind_auc", "blind_retain_val_auc", "blind_retain_test_auc")
    quiet = dict.fromkeys(keys, none)

    def lines(non_members="val", **figures):
        request = ForgetRequest((1,))
        fields = {"figures": quiet | figures, "non_members": non_members}
        return control_warnings(make_context(request, **fields))

    assert lines() == []
    (line,) = lines("test", attack_blind_auc=high)
    assert line.startswith("forget and test images differ without any model")
    (line,) = lines(blind_retain_val_auc=high)
    assert "retained training images and val images differ" in line
    assert "mia_efficacy_val_percent" in line
    (line,) = lines(blind_retain_test_auc=low)
    assert "mia_efficacy_percent" in line

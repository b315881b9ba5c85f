"""Memory, open files and open figures do not grow over hundreds of epochs or several runs."""

import gc
import os
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from tests.helpers.environment import UNLEARN_ONCE, model_flags
from tests.helpers.methods import REQUEST
from tests.helpers.small_net import SMALL_ARCH
from tests.helpers.tiny import split_set, tiny_model, tiny_set, trained_model
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.progress import Progress
from unlearn.registry import METHODS
from utils.train.recipe import Recipe
from utils.train.training import TrainingRun

linux = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
WARM_UP, LAST = 40, 200  # epochs
TOLERANCE = 4e6  # bytes; a copy of images and model per epoch would take ten times as much
COUNT = 400  # images


def resident_bytes():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@linux
def test_memory_does_not_grow_over_epochs_of_training():
    sizes = {}

    def measure(run):
        sizes[len(run.history)] = resident_bytes() if len(run.history) in (WARM_UP, LAST) else 0

    run = TrainingRun(tiny_model(), tiny_set(COUNT), tiny_set(8), Recipe(LAST, 0.01, COUNT))
    run.run(after_epoch=measure, show=False)
    assert sizes[LAST] - sizes[WARM_UP] < TOLERANCE


@linux
@pytest.mark.parametrize("method_id", ["RL", "UAM"])
def test_memory_does_not_grow_over_epochs_of_unlearning(method_id, workplace):
    method, sizes = METHODS[method_id], {}

    class MeasuringProgress(Progress):
        def save_epoch(self, state, optimizer):
            super().save_epoch(state, optimizer)
            self.wait()
            sizes[self.saved_epochs] = (
                resident_bytes() if self.saved_epochs in (WARM_UP, LAST) else 0
            )

    options = {name: option.default for name, option in method.options.items()}
    config = UnlearnConfig(
        REQUEST,
        Recipe(LAST, 1e-4, COUNT),
        options,
        progress=MeasuringProgress("model", {}),
        show=False,
    )
    method.run(trained_model(), *split_set(REQUEST, tiny_set(COUNT)), config)
    assert sizes[LAST] - sizes[WARM_UP] < TOLERANCE


@linux
def test_scripts_leave_no_file_and_no_figure_open(trained, done, data_files):
    """Files closed by the garbage collector give warnings, which fail a test."""
    grey = data_files["grey"]
    train = ("--save_model_id", "new", "--dataset", grey, "--device", "cpu")
    train += ("--arch", SMALL_ARCH, "--epochs", "1", "--overwrite")
    opened = []
    for _ in range(2):
        done("main_train", *train)
        done("generate_mask", *model_flags(grey), "--class_to_forget", "3")
        done("main_unlearn", *model_flags(grey), *UNLEARN_ONCE, "--overwrite")
        done("main_test", *model_flags(grey), "--no_window")
        gc.collect()
        opened.append(len(os.listdir("/proc/self/fd")))
    assert opened[0] == opened[1]
    assert plt.get_fignums() == []

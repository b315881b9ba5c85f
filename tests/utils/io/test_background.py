"""The background thread that writes checkpoints."""

import threading

import pytest
import torch
import torchvision

from utils.io.background import BackgroundWorker, copy_to_cpu
from utils.runtime import processes


def test_tasks_run_one_at_a_time_in_another_thread():
    background, done, release = BackgroundWorker(), [], threading.Event()
    background.submit(lambda: (release.wait(10), done.append(1)))
    assert done == []  # submit does not wait
    release.set()
    background.submit(lambda: done.append(threading.current_thread() is threading.main_thread()))
    background.wait()
    assert done == [1, False]
    background.wait()


@pytest.mark.parametrize("then", ["submit", "wait"])
def test_an_error_is_raised_once_by_the_next_call(then):
    background, done = BackgroundWorker(), []

    def fail():
        raise OSError("full")

    background.submit(fail)
    with pytest.raises(OSError, match="full"):
        if then == "submit":
            background.submit(lambda: done.append(1))
        else:
            background.wait()
    assert not done
    background.wait()


def test_several_ranks_run_tasks_in_the_calling_thread(monkeypatch):
    monkeypatch.setattr(processes._group, "world_size", 2)
    background, done = BackgroundWorker(), []
    background.submit(lambda: done.append(threading.current_thread() is threading.main_thread()))
    assert done == [True]


def test_a_copy_does_not_change_with_the_original():
    weights = torch.ones(2, requires_grad=True)
    content = {"weights": weights, "history": [{"loss": 1.0}], "pair": (weights, None)}
    copied = copy_to_cpu(content)
    with torch.no_grad():
        weights.zero_()
    content["history"][0]["loss"] = 2.0
    content["history"].append({})
    assert copied["history"] == [{"loss": 1.0}]
    assert copied["weights"].tolist() == copied["pair"][0].tolist() == [1, 1]
    assert copied["pair"][1] is None and not copied["weights"].requires_grad
    assert type(copied["pair"]) is tuple


def test_a_copy_of_a_state_dict_keeps_the_module_versions():
    network = torchvision.models.mnasnet0_5(weights=None)
    copied = copy_to_cpu(network.state_dict())
    with torch.no_grad():
        for weights in network.parameters():
            weights.zero_()
    network.load_state_dict(copied)  # fails without the versions
    assert all(torch.equal(values, copied[name]) for name, values in network.state_dict().items())
    assert copied["layers.0.weight"].any()

"""What is written beside the work."""

import threading

import pytest
import torch
import torchvision

from utils.io.background import BackgroundWorker, copy_to_cpu
from utils.runtime import processes


def test_work_is_done_one_after_the_other_in_another_thread():
    background, done, go_on = BackgroundWorker(), [], threading.Event()
    background.submit(lambda: (go_on.wait(10), done.append(1)))
    assert done == []  # nobody has waited
    go_on.set()
    background.submit(lambda: done.append(threading.current_thread() is threading.main_thread()))
    background.wait()
    assert done == [1, False]
    background.wait()


@pytest.mark.parametrize("then", ["submit", "wait"])
def test_an_error_is_raised_once_by_what_comes_next(then):
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


def test_processes_that_work_together_do_it_at_once(monkeypatch):
    monkeypatch.setattr(processes._group, "count", 2)
    background, done = BackgroundWorker(), []
    background.submit(lambda: done.append(threading.current_thread() is threading.main_thread()))
    assert done == [True]


def test_a_copy_is_of_now():
    weights = torch.ones(2, requires_grad=True)
    content = {"weights": weights, "history": [{"loss": 1.0}], "pair": (weights, None)}
    kept = copy_to_cpu(content)
    with torch.no_grad():
        weights.zero_()
    content["history"][0]["loss"] = 2.0
    content["history"].append({})
    assert kept["history"] == [{"loss": 1.0}]
    assert kept["weights"].tolist() == kept["pair"][0].tolist() == [1, 1]
    assert kept["pair"][1] is None and not kept["weights"].requires_grad
    assert type(kept["pair"]) is tuple


def test_a_copy_of_a_state_dict_tells_the_versions_of_its_modules():
    network = torchvision.models.mnasnet0_5(weights=None)
    kept = copy_to_cpu(network.state_dict())
    with torch.no_grad():
        for weights in network.parameters():
            weights.zero_()
    network.load_state_dict(kept)  # which refuses what has no version
    assert all(torch.equal(values, kept[name]) for name, values in network.state_dict().items())
    assert kept["layers.0.weight"].any()

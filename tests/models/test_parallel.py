"""Two processes compute the results of one, bitwise identical on both, and end two_ranks."""

import os
import re
import socket
import subprocess
import sys

import pytest
import torch

from models.checkpoint import read_record
from tests.helpers.environment import (
    REPOSITORY,
    TRAIN,
    assert_one_line,
    script_command,
    script_environment,
)
from tests.helpers.parallel_work import WORK, training_run, with_dropout
from tests.helpers.tiny import tiny_model
from utils.runtime import devices, processes
from utils.runtime.errors import UserError, run_script

FORGET = ("--unlearn", "FT", "--class_to_forget", "3", "--unlearn_epochs", "1")
WORKER = REPOSITORY / "tests" / "helpers" / "parallel_work.py"


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """(folder, the results of each of two processes, how each ended)."""
    folder = tmp_path_factory.mktemp("two_ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for number in range(2):
        launched = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        launched |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PYTHONPATH": REPOSITORY}
        running.append(
            subprocess.Popen(
                [sys.executable, WORKER, folder],
                env=script_environment() | {key: str(value) for key, value in launched.items()},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    outputs = [process.communicate(timeout=240) for process in running]
    ended = [  # some versions of gloo print that they are connected
        (process.returncode, re.sub(r"(?m)^\[Gloo\] .*\n", "", out), err)
        for process, (out, err) in zip(running, outputs, strict=True)
    ]
    paths = [folder / f"{number}.pt" for number in range(2)]
    assert all(path.exists() for path in paths), ended
    return folder, [torch.load(path) for path in paths], ended


def assert_bitwise_identical(first, second):
    assert first.keys() == second.keys()
    for name, part in first.items():
        assert torch.equal(part, second[name]), name


@pytest.mark.parametrize("name", WORK)
def test_two_processes_compute_the_results_of_one(name, two_ranks):
    first, second = (rank["results"][name] for rank in two_ranks[1])
    assert_bitwise_identical(first, second)
    single = WORK[name]()
    assert first.keys() == single.keys()
    for part, expected in single.items():
        torch.testing.assert_close(
            first[part], expected, rtol=1e-4, atol=2e-6, msg=f"{name} {part}"
        )


def test_training_changes_the_compared_weights():
    run = training_run()
    before = run.model.state_dict()["network.0.weight"].clone()
    run.run(show=False)
    assert (run.model.state_dict()["network.0.weight"] - before).abs().max() > 1e-3


def test_each_rank_runs_the_network_on_its_part(two_ranks):
    (seven, of_seven, one, _), (others, of_others, black, _) = (
        rank["own"]["view"] for rank in two_ranks[1]
    )
    assert (seven, others) == (4, 3)
    assert (one, black) == (1, 1)  # a black image for an empty part
    assert len(of_seven) == 4
    assert not torch.equal(of_seven[:3], of_others)


def test_dropout_differs_between_ranks_and_results_do_not(two_ranks):
    first, second = (rank["dropout"] for rank in two_ranks[1])
    assert_bitwise_identical(first, second)
    assert not torch.allclose(first["network.6.weight"], with_dropout()["network.6.weight"])


def test_only_rank_zero_writes_and_its_error_is_raised_on_all_ranks(two_ranks):
    folder, found, _ = two_ranks
    assert (folder / "written").read_text() == "0"
    assert [each["own"]["alone"] for each in found] == ["1", "1"]
    first, second = (each["own"]["refusals"] for each in found)
    assert first == second
    assert first[0] is None
    assert "cannot write" in first[1]


def test_local_rank_zero_runs_first_with_a_world_size_of_one(two_ranks):
    first, second = (rank["own"]["turns"] for rank in two_ranks[1])
    assert first == "0 of 1\n"
    assert second == "0 of 1\n0 of 1\n"


def test_all_ranks_equal(two_ranks):
    assert [rank["own"]["agree"] for rank in two_ranks[1]] == [[True, True], [True, False]]


def test_an_error_on_one_rank_ends_all_with_one_line(two_ranks):
    (first_code, first_out, first_err), (second_code, second_out, second_err) = two_ranks[2]
    assert (first_code, second_code) == (2, 2)
    assert (first_out, second_out) == ("done\n", "")
    assert_one_line(first_err + second_err, "error: rank 1 failed")


class Store:
    """A counter with the interface of torch's Store."""

    def __init__(self):
        self.counts = {}

    def add(self, key, amount):
        self.counts[key] = self.counts.get(key, 0) + amount
        return self.counts[key]


def test_a_killed_process_is_reported_once(monkeypatch, capsys):
    def main():
        raise RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:545] Read error")

    monkeypatch.setattr(processes, "_group", processes._Group(0, 2, store=Store()))
    for _ in range(2):
        with pytest.raises(SystemExit):
            run_script(main)
    assert_one_line(capsys.readouterr().err, "error: another process was killed")


@pytest.fixture
def rank_one_of_two(monkeypatch):
    """Let this process be rank 1 of 2, started with the same arguments."""
    monkeypatch.setattr(processes, "_group", processes._Group(1, 2, 1, 2))
    monkeypatch.setattr(processes, "all_ranks_equal", lambda _: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_each_rank_has_its_own_gpu(name, rank_one_of_two, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    requested = []
    monkeypatch.setattr(torch, "zeros", lambda _, device: requested.append(device) or torch.ones(1))
    assert devices.pick_device(name) == torch.device("cuda:1")
    assert requested == [torch.device("cuda:1")]


def test_more_ranks_than_gpus_are_an_error(rank_one_of_two, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(
        UserError, match="2 processes on a machine with 1 GPU: .*--nproc_per_node=1"
    ):
        devices.pick_device("auto")


def test_one_device_for_several_ranks_is_an_error(rank_one_of_two):
    with pytest.raises(UserError, match="--device cuda:0 is one device for 2 processes"):
        devices.pick_device("cuda:0")


def test_the_device_of_a_record_has_the_number_of_processes(rank_one_of_two):
    assert devices.describe(torch.device("cpu")).endswith(", 2 processes")


def test_without_torchrun_batches_are_not_split():
    model = tiny_model().eval()
    images = torch.zeros(3, 1, 8, 8)
    assert processes.world_size() == 1
    assert torch.equal(model(images), model.network((images / 255 - model.mean) / model.std))


def test_torchrun_trains_and_unlearns_and_each_file_is_written_once(workplace, data_files):
    def run(script, *flags):
        command = script_command(script, *flags, "--dataset", data_files["grey"], "--device", "cpu")
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        return subprocess.run(
            [*launcher, "--nproc_per_node=2", *command[1:]],
            env=script_environment(),
            cwd=workplace,
            capture_output=True,
            text=True,
            timeout=240,
        )

    seeds = ("--epochs", "1", "--seeds", "1", "2")
    trained = run("main_train", "--save_model_id", "tiny", *TRAIN, *seeds)
    assert trained.returncode == 0, trained
    assert trained.stdout.count("epoch 1/1:") == 2
    assert trained.stdout.splitlines()[-1] == "tiny_seed1_best tiny_seed2_best"
    made = {f"tiny_seed{seed}_{end}.pt" for seed in (1, 2) for end in ("best", "last")}
    assert set(os.listdir("model_weights")) == made
    unlearned = run("main_unlearn", "--model_id", "tiny_seed2_best", *FORGET)
    assert unlearned.returncode == 0, unlearned
    (model_id,) = (
        line.removeprefix("model_id: ")
        for line in unlearned.stdout.splitlines()
        if line.startswith("model_id: ")
    )
    assert set(os.listdir("model_weights")) == {f"{model_id}.pt", *made}
    assert read_record(model_id)["device"].endswith("2 processes")
    assert "Traceback" not in trained.stderr + unlearned.stderr

"""Passes that are replayed from CUDA graphs; here they are pretended (on a GPU: test_gpu.py)."""

import weakref

import pytest
import torch

from tests.helpers.methods import by_id, unlearned
from tests.helpers.tiny import same_weights, tiny_model, tiny_set
from utils.train import cuda_graphs as replay
from utils.train.recipe import Recipe
from utils.train.training import TrainingRun


class Graphs:
    """In the place of torch.cuda.make_graphed_callables: passes for nothing, and a fixed shape."""

    def __init__(self):
        self.recorded, self.replayed, self.played = [], 0, []
        self.out_of_memory = self.keep_cycles = False

    def make(self, passes, arguments, **_):
        if self.out_of_memory:
            raise torch.cuda.OutOfMemoryError("no room")
        images, *weights = arguments
        learned = [each for each in weights if each.requires_grad]
        for _ in range(3):
            torch.autograd.grad(passes(*arguments).sum(), learned, allow_unused=True)
        self.recorded.append(len(images))

        def play(now, *others):
            assert now.shape == images.shape
            assert [each.requires_grad for each in others] == [w.requires_grad for w in weights]
            assert [each.data_ptr() for each in others] == [w.data_ptr() for w in weights]
            self.replayed += 1
            return passes(now, *others)

        if self.keep_cycles:  # as torch's own function does, by a class within it
            play.itself = play
        self.played.append(weakref.ref(play))
        return play


@pytest.fixture
def graphs(monkeypatch):
    graphs = Graphs()
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", graphs.make)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    monkeypatch.setattr(replay, "EAGER_BATCHES", 1)
    return graphs


@pytest.fixture
def pretended(graphs, monkeypatch):
    """The same, with the CPU taken for the GPU."""
    monkeypatch.setattr(replay, "GRAPHS_ON", "cpu")
    return graphs


def trained(images=None, epochs=2):
    model = tiny_model(dropout=0.3)
    images = images or tiny_set(60)
    run = TrainingRun(model, images, tiny_set(12, seed=1), Recipe(epochs, 0.05, 16))
    run.run(show=False)
    return model


@by_id
def test_methods_learn_the_same_bits(method, graphs, monkeypatch):
    wanted = unlearned(method, tiny_set(60), epochs=2)
    assert not graphs.recorded
    monkeypatch.setattr(replay, "GRAPHS_ON", "cpu")
    assert same_weights(unlearned(method, tiny_set(60), epochs=2), wanted)
    assert bool(graphs.replayed) == bool(graphs.recorded)


def test_each_kind_of_batch_is_recorded_once(pretended):
    trained(epochs=3)  # four batches an epoch: three of 16 images, one of 12
    assert sorted(pretended.recorded) == [12, 16]
    assert pretended.replayed == (3 * 3 - 1) + (3 - 1)


def test_what_layers_do_makes_another_kind(pretended, monkeypatch):
    model, images = tiny_model(), tiny_set(16).images
    changes = (
        lambda: None,
        lambda: setattr(model.network[1], "training", False),
        lambda: model.network[0].requires_grad_(False),
        lambda: setattr(model, "use_bf16", True),
    )
    monkeypatch.setattr(replay, "MAX_GRAPHS", len(changes) + 1)
    with replay.cuda_graphs(model):
        for number, change in enumerate(changes, 1):
            change()
            for _ in range(3):
                replay.graphed_forward(model, images)
            assert len(pretended.recorded) == number
        model.eval()
        for _ in range(3):
            replay.graphed_forward(model, images)
        assert len(pretended.recorded) == len(changes)


def test_few_kinds_are_recorded(pretended):
    model = tiny_model()
    with replay.cuda_graphs(model):
        for size in (16, 16, 12, 12, 8, 8, 16, 12):
            replay.graphed_forward(model, tiny_set(size).images)
    assert pretended.recorded == [16, 12]


def test_a_graph_without_room_is_done_without(graphs, monkeypatch):
    wanted = trained()
    monkeypatch.setattr(replay, "GRAPHS_ON", "cpu")
    graphs.out_of_memory = True
    assert same_weights(trained(), wanted)
    assert not graphs.recorded


def test_nothing_is_recorded_while_threads_read_ahead(pretended):
    trained(tiny_set(60).stream_to("cpu", 2))
    assert not pretended.recorded


def test_a_graph_that_fails_takes_those_before_it_along(pretended):
    """They would draw from random numbers that are given up."""
    model = tiny_model()
    with replay.cuda_graphs(model):
        for size, room in (
            (16, True),
            (16, True),
            (16, True),
            (12, False),
            (12, False),
            (16, True),
        ):
            pretended.out_of_memory = not room
            logits = replay.graphed_forward(model, tiny_set(size).images)
            assert logits.shape == (size, 4)
    assert pretended.recorded == [16] and pretended.replayed == 2


def test_nothing_is_recorded_for_an_epoch_at_a_time(pretended):
    """As the networks of an ensemble learn in turn: it would be recorded anew each time."""
    run = TrainingRun(tiny_model(), tiny_set(60), tiny_set(12, seed=1), Recipe(3, 0.05, 16))
    for _ in range(3):
        run.run(show=False, epochs=1)
    assert len(run.history) == 3 and not pretended.recorded


def test_nothing_is_kept_after_a_run(pretended, monkeypatch):
    monkeypatch.setattr(pretended, "keep_cycles", True)
    model = trained()
    assert pretended.recorded and not replay._recordings
    assert [play() for play in pretended.played] == [None] * len(pretended.recorded)
    assert all(weights.grad is None for weights in model.parameters())
    model = tiny_model()
    with pytest.raises(KeyError), replay.cuda_graphs(model):
        raise KeyError
    assert not replay._recordings

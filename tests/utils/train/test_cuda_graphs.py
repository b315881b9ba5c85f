"""CUDA graphs, simulated on the CPU; real ones are tested in tests/gpu/test_gpu.py."""

import weakref

import pytest
import torch

from tests.helpers.methods import by_id, unlearned
from tests.helpers.tiny import same_weights, tiny_model, tiny_set
from utils.train import cuda_graphs
from utils.train.recipe import Recipe
from utils.train.training import TrainingRun


class SimulatedGraphs:
    """Replaces torch.cuda.make_graphed_callables: warm-up passes, and a fixed batch shape."""

    def __init__(self):
        self.captured, self.replay_count, self.replays = [], 0, []
        self.out_of_memory = self.keep_cycles = False

    def make(self, forward, arguments, **_):
        if self.out_of_memory:
            raise torch.cuda.OutOfMemoryError("no room")
        images, *weights = arguments
        trainable = [each for each in weights if each.requires_grad]
        for _ in range(3):
            torch.autograd.grad(forward(*arguments).sum(), trainable, allow_unused=True)
        self.captured.append(len(images))

        def replay(batch, *others):
            assert batch.shape == images.shape
            assert [each.requires_grad for each in others] == [w.requires_grad for w in weights]
            assert [each.data_ptr() for each in others] == [w.data_ptr() for w in weights]
            self.replay_count += 1
            return forward(batch, *others)

        if self.keep_cycles:  # as torch's own function does, by a class within it
            replay.itself = replay
        self.replays.append(weakref.ref(replay))
        return replay


@pytest.fixture
def graphs(monkeypatch):
    graphs = SimulatedGraphs()
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", graphs.make)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    monkeypatch.setattr(cuda_graphs, "EAGER_BATCHES", 1)
    return graphs


@pytest.fixture
def cpu_graphs(graphs, monkeypatch):
    """Simulated graphs that are used on the CPU."""
    monkeypatch.setattr(cuda_graphs, "GRAPH_DEVICE", "cpu")
    return graphs


def trained(images=None, epochs=2):
    model = tiny_model(dropout=0.3)
    images = images or tiny_set(60)
    run = TrainingRun(model, images, tiny_set(12, seed=1), Recipe(epochs, 0.05, 16))
    run.run(show=False)
    return model


@by_id
def test_methods_are_bitwise_identical_with_graphs(method, graphs, monkeypatch):
    expected = unlearned(method, tiny_set(60), epochs=2)
    assert not graphs.captured
    monkeypatch.setattr(cuda_graphs, "GRAPH_DEVICE", "cpu")
    assert same_weights(unlearned(method, tiny_set(60), epochs=2), expected)
    assert bool(graphs.replay_count) == bool(graphs.captured)


def test_each_batch_size_is_captured_once(cpu_graphs):
    trained(epochs=3)  # four batches an epoch: three of 16 images, one of 12
    assert sorted(cpu_graphs.captured) == [12, 16]
    assert cpu_graphs.replay_count == (3 * 3 - 1) + (3 - 1)


def test_a_change_of_layers_or_precision_needs_another_graph(cpu_graphs, monkeypatch):
    model, images = tiny_model(), tiny_set(16).images
    changes = (
        lambda: None,
        lambda: setattr(model.network[1], "training", False),
        lambda: model.network[0].requires_grad_(False),
        lambda: setattr(model, "use_bf16", True),
    )
    monkeypatch.setattr(cuda_graphs, "MAX_GRAPHS", len(changes) + 1)
    with cuda_graphs.cuda_graphs(model):
        for number, change in enumerate(changes, 1):
            change()
            for _ in range(3):
                cuda_graphs.graphed_forward(model, images)
            assert len(cpu_graphs.captured) == number
        model.eval()
        for _ in range(3):
            cuda_graphs.graphed_forward(model, images)
        assert len(cpu_graphs.captured) == len(changes)


def test_at_most_max_graphs_are_captured(cpu_graphs):
    model = tiny_model()
    with cuda_graphs.cuda_graphs(model):
        for size in (16, 16, 12, 12, 8, 8, 16, 12):
            cuda_graphs.graphed_forward(model, tiny_set(size).images)
    assert cpu_graphs.captured == [16, 12]


def test_training_continues_without_graphs_when_memory_is_short(graphs, monkeypatch):
    expected = trained()
    monkeypatch.setattr(cuda_graphs, "GRAPH_DEVICE", "cpu")
    graphs.out_of_memory = True
    assert same_weights(trained(), expected)
    assert not graphs.captured


def test_nothing_is_captured_while_threads_read_ahead(cpu_graphs):
    trained(tiny_set(60).stream_to("cpu", 2))
    assert not cpu_graphs.captured


def test_a_failed_capture_discards_earlier_graphs(cpu_graphs):
    """They would use a random generator that is not registered any more."""
    model = tiny_model()
    with cuda_graphs.cuda_graphs(model):
        for size, room in (
            (16, True),
            (16, True),
            (16, True),
            (12, False),
            (12, False),
            (16, True),
        ):
            cpu_graphs.out_of_memory = not room
            logits = cuda_graphs.graphed_forward(model, tiny_set(size).images)
            assert logits.shape == (size, 4)
    assert cpu_graphs.captured == [16] and cpu_graphs.replay_count == 2


def test_nothing_is_captured_when_epochs_are_run_one_at_a_time(cpu_graphs):
    """The networks of an ensemble train like this, and would be captured again in each epoch."""
    run = TrainingRun(tiny_model(), tiny_set(60), tiny_set(12, seed=1), Recipe(3, 0.05, 16))
    for _ in range(3):
        run.run(show=False, epochs=1)
    assert len(run.history) == 3 and not cpu_graphs.captured


def test_graphs_are_freed_after_a_run(cpu_graphs, monkeypatch):
    monkeypatch.setattr(cpu_graphs, "keep_cycles", True)
    model = trained()
    assert cpu_graphs.captured and not cuda_graphs._captures
    assert [replay() for replay in cpu_graphs.replays] == [None] * len(cpu_graphs.captured)
    assert all(weights.grad is None for weights in model.parameters())
    model = tiny_model()
    with pytest.raises(KeyError), cuda_graphs.cuda_graphs(model):
        raise KeyError
    assert not cuda_graphs._captures

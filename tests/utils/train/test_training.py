"""Training depends on its arguments only, can be resumed, and keeps the best epoch."""

import math

import pytest
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from tests.helpers.tiny import same_weights, tiny_model, tiny_set, weights_of
from utils.runtime.errors import UserError
from utils.train import training
from utils.train.losses import classification_loss
from utils.train.prediction import predict
from utils.train.recipe import OPTIMIZERS, Recipe
from utils.train.training import (
    TrainingRun,
    count_correct,
    gradient_step,
    load_optimizer_state,
    make_optimizer,
    shuffled_batches,
    steps_per_epoch,
    train_epoch,
)

RATE = 0.02


def trained(seed=1, *, dropout=0.0, optimizer="sgd", epochs=2, multi_label=False):
    """Return a finished TrainingRun."""
    run = new_run(
        seed, dropout=dropout, optimizer=optimizer, epochs=epochs, multi_label=multi_label
    )
    run.run(show=False)
    return run


def new_run(seed=1, *, dropout=0.0, optimizer="sgd", epochs=2, multi_label=False):
    train_set, val_set = (tiny_set(count, multi_label=multi_label, seed=count) for count in (23, 9))
    recipe = Recipe(epochs, RATE, 5, optimizer, seed=seed)
    return TrainingRun(tiny_model(dropout=dropout), train_set, val_set, recipe)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 17, 18, 33])
@pytest.mark.parametrize("batch_size", [1, 2, 4, 8, 16, 100])
def test_batches_contain_every_position_once(count, batch_size):
    parts = shuffled_batches(count, batch_size, torch.Generator().manual_seed(0), "cpu")
    assert sorted(torch.cat(parts).tolist()) == list(range(count))
    assert len(parts) == steps_per_epoch(count, batch_size)
    assert all(len(part) <= batch_size + 1 for part in parts)
    assert len(parts[-1]) > 1 or count == 1


def test_a_last_batch_of_one_image_is_merged():
    parts = shuffled_batches(17, 8, torch.Generator().manual_seed(0), "cpu")
    assert [len(part) for part in parts] == [8, 9]


def test_each_call_shuffles_again():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.cat(shuffled_batches(50, 8, generator, "cpu")) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_seed_determines_the_weights(multi_label):
    first, second, other = (
        trained(seed, dropout=0.3, multi_label=multi_label) for seed in (1, 1, 2)
    )
    assert same_weights(first.model, second.model)
    assert not same_weights(first.model, other.model)
    for run in (first, second):
        run.seconds = 0
    assert first.history == second.history


def test_the_global_random_state_is_neither_used_nor_changed():
    torch.manual_seed(11)
    first = trained(dropout=0.3)
    drawn = torch.rand(3)
    torch.manual_seed(11)
    assert torch.equal(drawn, torch.rand(3))
    torch.manual_seed(12)
    assert same_weights(first.model, trained(dropout=0.3).model)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_resumed_run_is_bitwise_identical(optimizer, stop_after, tmp_path):
    whole = trained(dropout=0.3, optimizer=optimizer, epochs=4)

    class Interrupted(Exception):
        pass

    def save_and_interrupt(run):
        if len(run.history) == stop_after:
            torch.save(run.state(), tmp_path / "state.pt")
            raise Interrupted

    stopped = new_run(dropout=0.3, optimizer=optimizer, epochs=4)
    with pytest.raises(Interrupted):
        stopped.run(after_epoch=save_and_interrupt, show=False)

    torch.manual_seed(99)  # the resuming process has another random state
    resumed = new_run(dropout=0.3, optimizer=optimizer, epochs=4)
    resumed.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    resumed.run(show=False)
    assert same_weights(resumed.model, whole.model)
    assert same_weights(resumed.best_weights, whole.best_weights)
    assert resumed.best_epoch == whole.best_epoch
    assert resumed.history == whole.history


@pytest.mark.parametrize(
    ("metrics", "best"),
    [
        ([(0.5, 0.9), (0.7, 0.8), (0.6, 0.1)], 2),  # accuracy decides, not loss
        ([(0.5, 0.9), (0.7, 0.8), (0.7, 0.7), (0.7, 0.75)], 3),  # a tie goes to the lower loss
        ([(0.7, 0.5), (0.7, 0.5)], 1),  # equal in both: the earlier
        ([(math.nan, math.nan)] * 3, 3),  # no validation images: the last
    ],
)
def test_best_epoch_by_accuracy_then_loss(monkeypatch, metrics, best):
    empty = math.isnan(metrics[0][0])
    run = new_run(epochs=len(metrics))
    if empty:
        run.val_set = tiny_set(4).subset(torch.zeros(4, dtype=torch.bool))
    else:
        remaining = iter(metrics)
        monkeypatch.setattr(training, "_validate", lambda *_: next(remaining)[::-1])
    weights = []
    run.run(after_epoch=lambda run: weights.append(weights_of(run.model)), show=False)
    assert run.best_epoch == best
    assert same_weights(run.best_weights, weights[best - 1])
    assert not any(same_weights(run.best_weights, other) for other in weights[best:])


def test_a_diverged_model_is_an_error(monkeypatch):
    monkeypatch.setattr(training, "_validate", lambda *_: (math.nan, 0.2))
    with pytest.raises(UserError, match="not finite any more in epoch 1 of 1, on the validation"):
        new_run(epochs=1).run(show=False)


def test_history_agrees_with_predictions():
    run = trained(epochs=1)
    logits = predict(run.model, run.val_set)
    right = (logits.argmax(1) == run.val_set.labels).double().mean().item()
    loss = functional.cross_entropy(logits, run.val_set.labels).item()
    assert run.history[0]["val_accuracy_percent"] == pytest.approx(100 * right)
    assert run.history[0]["val_loss"] == pytest.approx(loss)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_epoch_equals_that_of_a_plain_loop(optimizer, multi_label):
    """The loop has a DataLoader in the same order and optimizers that are not fused."""
    image_set = tiny_set(19, multi_label=multi_label)
    model, plain = tiny_model().train(), tiny_model().train()
    loss = train_epoch(
        model,
        image_set,
        gradient_step(classification_loss),
        make_optimizer(model, optimizer, RATE, 0.01),
        batch_size=5,
        generator=torch.Generator().manual_seed(4),
    )

    order = torch.randperm(19, generator=torch.Generator().manual_seed(4))
    loader = DataLoader(TensorDataset(image_set.images[order], image_set.labels[order]), 5)
    step = {
        "sgd": lambda w: torch.optim.SGD(w, RATE, momentum=0.9, nesterov=True, weight_decay=0.01),
        "adam": lambda w: torch.optim.Adam(w, RATE, weight_decay=0.01),
        "adamw": lambda w: torch.optim.AdamW(w, RATE, weight_decay=0.01),
    }[optimizer](plain.parameters())
    total = 0
    for images, labels in loader:
        logits = plain(images)
        if multi_label:
            batch_loss = functional.binary_cross_entropy_with_logits(logits, labels.float())
        else:
            batch_loss = functional.cross_entropy(logits, labels)
        step.zero_grad()
        batch_loss.backward()
        step.step()
        total += batch_loss.item() * len(images)
    assert loss == pytest.approx(total / 19, rel=1e-5)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_step():
    losses = iter([1.0, 1.0, math.nan, math.inf])
    model = tiny_model().train()
    with pytest.raises(UserError, match="not finite any more at step 3 of 4: .*was not saved"):
        train_epoch(
            model,
            tiny_set(16),
            gradient_step(lambda logits, labels: logits.sum() * next(losses)),
            make_optimizer(model, "sgd", RATE, 0),
            batch_size=4,
            generator=torch.Generator(),
        )


@pytest.mark.parametrize("steps", [20, 100, 1234])
def test_the_learning_rate_warms_up_and_decays(steps):
    factor = training._warmup_cosine(steps)
    factors = [factor(step) for step in range(steps)]
    top = factors.index(max(factors))
    assert factors[top] == 1
    assert top == math.ceil(0.05 * steps)
    assert 0 < factors[0] <= 0.5
    assert factors[-1] < 0.01
    assert factors[:top] == sorted(factors[:top])
    assert factors[top:] == sorted(factors[top:], reverse=True)


def test_a_run_completes_its_schedule():
    run = new_run(epochs=3)
    rates = [run.scheduler.get_last_lr()[0]]
    original = run.scheduler.step
    run.scheduler.step = lambda: (original(), rates.append(run.scheduler.get_last_lr()[0]))
    run.run(show=False)
    assert len(rates) == 1 + 3 * steps_per_epoch(23, 5)
    assert max(rates) == RATE
    assert rates[-1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("was_training", [False, True])
def test_predict_equals_single_forward_passes_and_changes_nothing(was_training):
    model, image_set = tiny_model(dropout=0.5), tiny_set(13)
    optimizer = make_optimizer(model, "sgd", RATE, 0)
    train_epoch(
        model.train(),
        image_set,
        gradient_step(classification_loss),
        optimizer,
        batch_size=4,
        generator=torch.Generator(),
    )
    model.train(was_training)
    before = weights_of(model)
    logits = predict(model, image_set, batch_size=4)
    assert model.training is was_training
    assert all(module.training is was_training for module in model.modules())
    assert same_weights(model, before)
    model.eval()
    with torch.no_grad():
        plain = torch.stack([model(image[None])[0] for image in image_set.images])
    torch.testing.assert_close(logits, plain)


def test_predict_keeps_the_order_of_a_view():
    model, image_set = tiny_model(), tiny_set(9)
    positions = torch.tensor([7, 2, 2, 5])
    torch.testing.assert_close(
        predict(model, image_set.subset(positions)), predict(model, image_set)[positions]
    )
    assert predict(model, image_set.subset(positions[:0])).shape == (0, 4)


def test_count_correct_by_hand():
    logits = torch.tensor([[2.0, 1.0], [-1.0, -2.0], [-1.0, 3.0]])
    assert count_correct(logits, torch.tensor([0, 1, 1])) == 2
    assert count_correct(logits, torch.tensor([[1, 1], [0, 1], [0, 0]])) == 4


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_are_an_error(count):
    image_set = tiny_set(4)
    few = image_set.subset(torch.arange(count))
    with pytest.raises(UserError, match=f"{count} training images are too few"):
        TrainingRun(tiny_model(), few, image_set, Recipe(1, RATE, 2))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_state_in_channels_last_format_is_loaded(optimizer):
    """A GPU saves it so; fused optimizers read weight and state in memory order."""
    models = []
    for layout in (torch.contiguous_format, torch.channels_last):
        model = tiny_model(channels=3)
        first = make_optimizer(model, optimizer, 0.01, 0.0)
        _steps(model, first, 2)
        state = first.state_dict()
        for weight_state in state["state"].values():
            for name, value in weight_state.items():
                if torch.is_tensor(value) and value.ndim == 4:
                    weight_state[name] = value.contiguous(memory_format=layout)
        second = make_optimizer(model, optimizer, 0.01, 0.0)
        load_optimizer_state(second, state)
        _steps(model, second, 2)
        models.append(model)
    assert same_weights(*models)


def _steps(model, optimizer, count):
    image_set = tiny_set(12, channels=3)
    step = gradient_step(classification_loss)
    for _ in range(count):
        step(model.train(), optimizer, image_set.images, image_set.labels)

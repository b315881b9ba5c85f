"""SCRUB_R runs SCRUB and ends with the epoch whose error is nearest to that on unseen images."""

from dataclasses import replace

import pytest

from tests.helpers.methods import REQUEST, by_task, scrub_config
from tests.helpers.tiny import same_weights, split_set, tiny_set, trained_model, weights_of
from unlearn.methods import scrub_r
from unlearn.registry import METHODS
from utils.train.prediction import predict

METHOD = METHODS["SCRUB_R"]


def test_the_nearest_error_is_chosen_and_the_last_of_equal_ones():
    kept = [(0.1, "first"), (0.4, "second"), (0.4, "third"), (0.9, "fourth")]
    for reference, expected in ((0.0, "first"), (0.3, "third"), (0.6, "third"), (1.0, "fourth")):
        assert scrub_r.nearest_weights(kept, reference) == expected


def test_rewinding_ends_at_the_epoch_whose_forget_error_is_nearest(monkeypatch):
    """Each epoch as it was, by hand; the reference is the last model's error on unseen images."""
    forget_set, retain_set = split_set(REQUEST, tiny_set(40))
    unseen = forget_set.subset(slice(0, 6))
    config = replace(scrub_config(3, 0.0, 0.0, epochs=3), matching_val=unseen)
    ends, errors = [], iter([0.2, 0.5, 0.9, 0.45])  # after each epoch, and the reference

    def recorded(model, image_set, request):
        ends.append((len(image_set), weights_of(model)))
        return next(errors)

    monkeypatch.setattr(scrub_r, "error_rate", recorded)
    model = METHOD.run(trained_model(), forget_set, retain_set, config)
    assert [size for size, _ in ends] == [10, 10, 10, 6]
    assert same_weights(model.state_dict(), ends[1][1])
    assert not same_weights(ends[1][1], ends[2][1])
    assert same_weights(ends[2][1], ends[3][1])
    monkeypatch.undo()
    without = METHOD.run(
        trained_model(), forget_set, retain_set, replace(config, matching_val=None)
    )
    assert same_weights(without.state_dict(), ends[2][1])
    nothing = replace(config, matching_val=unseen.subset(slice(0, 0)))
    assert same_weights(METHOD.run(trained_model(), forget_set, retain_set, nothing), without)


@by_task
def test_error_is_the_fraction_of_wrong_predictions(multi_label):
    forget_set = split_set(REQUEST, tiny_set(40, multi_label=multi_label))[0]
    model = trained_model(multi_label=multi_label)
    logits = predict(model, forget_set)
    right = logits[:, 1] > 0 if multi_label else logits.argmax(1) == 1
    expected = 1 - right.double().mean().item()
    assert scrub_r.error_rate(model, forget_set, REQUEST) == pytest.approx(expected)


def test_it_forgets_and_keeps():
    forget_set, retain_set = split_set(REQUEST, tiny_set(120))
    model = trained_model()
    config = scrub_config(2, 0.5, 1.0, epochs=5, lr=0.02, batch_size=10, optimizer="adam")
    config = replace(config, matching_val=split_set(REQUEST, tiny_set(40, seed=1))[0])
    METHOD.run(model, forget_set, retain_set, config)
    assert scrub_r.error_rate(model, forget_set, REQUEST) > 0.8
    assert scrub_r.error_rate(model, retain_set, REQUEST) < 0.1

"""NegMerge subtracts the changes on whose sign all fine-tuned models agree, and no others."""

from dataclasses import replace

import pytest
import torch

from tests.helpers.tiny import same_weights, split_set, tiny_set, trained_model, weights_of
from unlearn.engine.config import UnlearnConfig
from unlearn.methods import neg_merge
from unlearn.methods.neg_merge import SignConsensus, fine_tuned
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.runtime.errors import UserError
from utils.train.prediction import predict
from utils.train.recipe import Recipe

METHOD = METHODS["NegMerge"]
REQUEST = ForgetRequest((1,))


def config_of(strength=1.0, models=3, **changes):
    recipe = replace(Recipe(2, 0.02, 4, weight_decay=0.0), **changes)
    return UnlearnConfig(REQUEST, recipe, {"lambda": strength, "models": models}, show=False)


def test_only_entries_of_one_sign_are_kept_and_averaged():
    merged = SignConsensus()
    vectors = [
        [3.0, -1.0, 1.0, 0.0, 2.0, 1.0],
        [6.0, -2.0, -1.0, 1.0, 0.0, -1.0],
        [0.3, -3.0, 1.0, 1.0, 2.0, -1.0],
    ]
    for vector in vectors:
        merged.add({"a": torch.tensor(vector[:4]), "b": torch.tensor([vector[4:]])})
    mean = merged.mean()
    torch.testing.assert_close(mean["a"], torch.tensor([3.1, -2.0, 0.0, 0.0]))
    torch.testing.assert_close(mean["b"], torch.tensor([[0.0, 0.0]]))


def test_the_result_is_the_base_minus_the_merged_vectors():
    sets = split_set(REQUEST, tiny_set(40))
    config = config_of(2.5)
    base = weights_of(trained_model())
    tuned = [fine_tuned(trained_model(), sets[0], config, number) for number in range(3)]
    model = METHOD.run(trained_model(), *sets, config)
    kept = moved = 0
    for name, after in model.named_parameters():
        vectors = torch.stack([each.get_parameter(name).detach() - base[name] for each in tuned])
        agree = (vectors > 0).all(0) | (vectors < 0).all(0)
        assert torch.equal(after[~agree], base[name][~agree])
        expected = base[name] - 2.5 * vectors.mean(0) * agree
        torch.testing.assert_close(after, expected, rtol=1e-5, atol=1e-6)
        kept, moved = kept + (~agree).sum(), moved + agree.sum()
    assert kept > 0 and moved > 0


def test_one_model_is_plain_task_arithmetic_and_lambda_zero_nothing():
    sets = split_set(REQUEST, tiny_set(40))
    base, config = trained_model(), config_of(1.0, models=1)
    tuned = fine_tuned(base, sets[0], config, 0)
    assert same_weights(base, trained_model())
    model = METHOD.run(trained_model(), *sets, config)
    for name, after in model.named_parameters():
        before = base.get_parameter(name)
        torch.testing.assert_close(after, 2 * before - tuned.get_parameter(name))
    assert same_weights(METHOD.run(trained_model(), *sets, config_of(0.0)), base)


def test_rates_go_in_powers_of_two_and_seeds_differ(monkeypatch):
    seen = []

    def look(model, _, config):
        seen.append((config.recipe.lr, config.recipe.seed))
        return model

    monkeypatch.setattr(neg_merge, "run_epochs", look)
    METHOD.run(trained_model(), *split_set(REQUEST, tiny_set(40)), config_of())
    assert seen == [(0.01, 1), (0.02, 2), (0.04, 3)]


@pytest.mark.parametrize("multi_label", [False, True], ids=["single", "multi"])
def test_it_forgets_and_keeps(multi_label):
    forget_set, retain_set = split_set(REQUEST, tiny_set(120, multi_label=multi_label))
    model = trained_model(multi_label=multi_label)
    METHOD.run(model, forget_set, retain_set, config_of(20.0, epochs=5, lr=0.1))
    known = [
        REQUEST.correct_fraction(predict(model, part), part.labels).float().mean()
        for part in (forget_set, retain_set)
    ]
    assert known[0] < 0.5 and known[1] > 0.9


def test_a_step_that_is_too_long_stops_with_one_line():
    with pytest.raises(UserError, match="not finite"):
        METHOD.run(trained_model(), *split_set(REQUEST, tiny_set(40)), config_of(1e38, lr=1.0))

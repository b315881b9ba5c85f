"""Scores of predictions by what a request is about, computed by hand or in another way."""

import math

import numpy as np
import pytest
import torch

from tests.helpers.requests import LISTED
from tests.helpers.tiny import tiny_set
from unlearn.request.request import ForgetRequest


def test_losses_of_one_class_by_hand():
    logits = torch.tensor([[0.0, 2.0], [1.0, -1.0]])
    single = ForgetRequest((1,)).losses(logits, torch.tensor([1, 1]))
    torch.testing.assert_close(single, -(logits[:, 1].exp() / logits.exp().sum(1)).log())
    multi = ForgetRequest((1,)).losses(logits, torch.tensor([[0, 1], [1, 1]]))
    torch.testing.assert_close(multi, -logits[:, 1].sigmoid().log())


def test_scored_logits_of_one_finding():
    logits, labels = torch.randn(5, 4), tiny_set(5, multi_label=True).labels
    scored, targets = ForgetRequest((2,)).scored_logits(logits, labels)
    assert torch.equal(scored, torch.stack([torch.zeros(5), logits[:, 2]], 1))
    assert torch.equal(targets, labels[:, 2])


def test_scores_of_several_findings_by_hand():
    logits = torch.tensor([[2.0, -1.0, 0.5], [2.0, -1.0, 0.5], [2.0, -1.0, 0.5]])
    labels = torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 1]])
    p = torch.sigmoid(logits[0].double())
    # findings 0 and 1: both present; only 1 present; none present, so both are scored
    probabilities = {
        ForgetRequest((0, 1)): [(p[0] * p[1]) ** 0.5, p[1], ((1 - p[0]) * (1 - p[1])) ** 0.5],
        LISTED: [
            (p[0] * p[1] * (1 - p[2])) ** (1 / 3),
            ((1 - p[0]) * p[1] * p[2]) ** (1 / 3),
            ((1 - p[0]) * (1 - p[1]) * p[2]) ** (1 / 3),
        ],
    }
    correct = {ForgetRequest((0, 1)): [0.5, 0, 0.5], LISTED: [1 / 3, 1 / 3, 2 / 3]}
    for request, geometric in probabilities.items():
        scored, targets = request.scored_logits(logits, labels)
        assert scored.dtype == torch.float64 and targets.tolist() == [1, 1, 1]
        found = scored.softmax(1)[:, 1]
        torch.testing.assert_close(found, torch.stack(geometric))
        losses = request.losses(logits, labels)
        assert losses.dtype == torch.float32
        torch.testing.assert_close(losses.double().neg().exp(), found)
        torch.testing.assert_close(
            request.correct_fraction(logits, labels), torch.tensor(correct[request])
        )


def test_scored_logits_are_exact_for_extreme_logits():
    for logit in (1e-3, 30.0, 100.0, 700.0, 1e4):
        labels = torch.tensor([[1, 0], [0, 1]])
        scored, _ = LISTED.scored_logits(torch.tensor([[logit, -logit], [logit, -logit]]), labels)
        assert scored.isfinite().all()
        right, wrong = scored[:, 1].tolist()
        # both findings are alike, so the mean is the probability of either
        assert right == pytest.approx(min(logit, -math.log(np.finfo(float).tiny)), rel=1e-5)
        assert wrong == pytest.approx(-logit, rel=1e-5)


def test_gradients_of_losses():
    labels = torch.tensor([[1, 0, 1], [0, 0, 0]])
    for request in (LISTED, ForgetRequest((0, 2))):
        logits = torch.zeros(2, 3, requires_grad=True)
        request.losses(logits, labels).sum().backward()
        scored = request.scored_findings(labels)
        expected = (0.5 - labels) / scored.sum(1, keepdim=True) * scored
        torch.testing.assert_close(logits.grad, expected)


def test_chance_loss_is_the_loss_of_a_uniform_prediction():
    for labels in (torch.tensor([1, 1]), torch.tensor([[0, 1, 0, 0], [1, 1, 0, 1]])):
        logits = torch.zeros(2, 4)
        for request in (ForgetRequest((1,)), ForgetRequest((1, 2)), LISTED):
            chance = torch.full((2,), request.chance_loss(logits, labels))
            torch.testing.assert_close(request.losses(logits, labels), chance)

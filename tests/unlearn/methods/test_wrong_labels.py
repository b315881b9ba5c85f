"""Wrong labels of random labelling are uniform over the classes that may be drawn."""

import torch

from tests.helpers.requests import LISTED
from tests.helpers.tiny import tiny_set
from unlearn.methods.random_label import draw_wrong_labels
from unlearn.request.request import ForgetRequest


def test_wrong_labels_of_one_class_are_uniform_steps():
    for own, num_classes in ((1, 4), (0, 2), (7, 8)):
        labels = torch.full((500,), own)
        drawn = draw_wrong_labels(
            labels, num_classes, ForgetRequest((own,)), torch.Generator().manual_seed(3)
        )
        step = torch.randint(1, num_classes, (500,), generator=torch.Generator().manual_seed(3))
        assert torch.equal(drawn, (labels + step) % num_classes)


def test_wrong_labels_are_neither_the_own_class_nor_a_forgotten_one():
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([1, 3, 4]).repeat(2000)
    wrong = draw_wrong_labels(labels, 6, ForgetRequest((1, 3, 4)), generator)
    counts = torch.bincount(wrong, minlength=6)
    assert counts[[1, 3, 4]].sum() == 0
    assert (counts[[0, 2, 5]] - 2000).abs().max() < 200
    labels = torch.arange(6).repeat(1000)
    wrong = draw_wrong_labels(labels, 6, LISTED, generator)
    assert (wrong != labels).all()
    for own in range(6):
        counts = torch.bincount(wrong[labels == own], minlength=6)
        assert (counts[torch.arange(6) != own] - 200).abs().max() < 70


def test_wrong_findings_of_several_classes_and_of_single_images():
    generator = torch.Generator().manual_seed(0)
    labels = tiny_set(4000, 6, multi_label=True).labels
    labels[0] = 1
    labels[1] = 0
    request = ForgetRequest((1, 4))
    forgotten = labels[request.has_requested_class(labels)]
    wrong = draw_wrong_labels(forgotten, 6, request, generator)
    assert not wrong[:, [1, 4]].any()
    others = [0, 2, 3, 5]
    assert (wrong[:, others] >= forgotten[:, others]).all()  # other findings are only added
    alone = forgotten[:, others].sum(1) == 0  # so every added finding is visible
    assert torch.equal(wrong[alone].sum(1), forgotten[alone].sum(1))
    assert (wrong[alone].sum(0)[others] / wrong[alone].sum() - 0.25).abs().max() < 0.07
    wrong = draw_wrong_labels(labels, 6, LISTED, generator)
    assert not (wrong & labels).any()
    expected = torch.minimum(labels.sum(1).clamp(min=1), 6 - labels.sum(1))
    assert torch.equal(wrong.sum(1), expected)
    assert (wrong != labels).any(1).all()

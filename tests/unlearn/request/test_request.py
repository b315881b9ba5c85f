"""A request divides the data into what is forgotten and what is kept, and nothing gets lost."""

import hashlib
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from evaluation.metrics.blind import blind_attack
from tests.helpers.tiny import split_set, tiny_dataset, tiny_set
from unlearn.methods.random_label import draw_wrong_labels
from unlearn.request.files import request_from_indices_file, request_from_metadata
from unlearn.request.request import ForgetRequest, class_index
from unlearn.saliency import saliency_path
from utils.data.datasets import ImageSet
from utils.runtime.errors import UserError

LISTED = ForgetRequest((), (0, 5, 7, 11))


def requests_of(dataset):
    """One of every kind."""
    return [
        *(ForgetRequest((number,)) for number in range(4)),
        ForgetRequest((1, 3)),
        ForgetRequest.from_fraction(0.25, 1, None, dataset),
        ForgetRequest.from_fraction(0.5, 2, ["0", "2"], dataset),
        LISTED,
    ]


@pytest.mark.parametrize("multi_label", [False, True])
def test_forget_and_retain_sets_partition_the_data(multi_label):
    dataset = tiny_dataset(multi_label=multi_label)
    for request, (name, split) in itertools.product(requests_of(dataset), dataset.splits.items()):
        forget_set, retain_set = request.split(dataset, name)
        both = torch.cat([forget_set.indices, retain_set.indices])
        assert sorted(both.tolist()) == list(range(len(split)))
        for part in (forget_set, retain_set):
            images, labels = part.batch(torch.arange(len(part)))
            assert torch.equal(images, split.images[part.indices])
            assert torch.equal(labels, split.labels[part.indices])
        if request.indices is not None:
            assert tuple(forget_set.indices.tolist()) == (request.indices * (name == "train"))
            continue
        assert len(forget_set) > 0 and len(retain_set) > 0
        of_forgotten, of_kept = (
            part.labels[:, request.classes].any(1)
            if multi_label
            else torch.tensor([label in request.classes for label in part.labels.tolist()])
            for part in (forget_set, retain_set)
        )
        assert of_forgotten.all() and not of_kept.any()
        assert torch.equal(
            request.matches_forget_set(dataset, name), request.in_forget_set(dataset, name)
        )


def test_single_images_are_compared_with_unseen_images_of_their_classes():
    dataset = tiny_dataset()  # the class of an image is its row modulo 4
    request = ForgetRequest((), (0, 3, 4))
    assert request.matches_forget_set(dataset, "val").tolist() == [True, False, False, True] * 2


def test_images_with_several_findings_are_compared_with_their_like():
    multi = tiny_dataset(multi_label=True, train=200)
    labels = {name: split.labels for name, split in multi.splits.items()}
    of_all = ForgetRequest.from_fraction(0.25, 1, None, multi)
    assert of_all.matches_forget_set(multi, "test").all()
    drawn = ForgetRequest.from_fraction(0.25, 1, ["1", "3"], multi)
    assert drawn.sampled_classes == (1, 3)
    with_them = labels["test"][:, 1].bool() | labels["test"][:, 3].bool()
    assert not with_them.all()
    assert torch.equal(drawn.matches_forget_set(multi, "test"), with_them)
    again = ForgetRequest.from_record(drawn.record())  # as a model's file tells of it
    assert torch.equal(again.matches_forget_set(multi, "test"), with_them)
    assert ForgetRequest.from_record(of_all.record()).matches_forget_set(multi, "test").all()
    listed = ForgetRequest((), (0, 5, 17))
    of_their_kind = {tuple(labels["train"][row].tolist()) for row in listed.indices}
    expected = [tuple(row) in of_their_kind for row in labels["test"].tolist()]
    assert any(expected) and not all(expected)
    assert listed.matches_forget_set(multi, "test").tolist() == expected


def test_a_control_of_images_drawn_from_findings_finds_nothing():
    """Their findings alone tell them from all unseen images, and from their like they do not."""
    multi = tiny_dataset(multi_label=True, train=400)
    multi = replace(multi, val=tiny_set(200, multi_label=True, seed=7))
    request = ForgetRequest.from_fraction(0.25, 1, ["1"], multi)
    forget_set, _ = request.split(multi, "train")
    assert blind_attack(forget_set, multi.val).low > 0.6
    found = blind_attack(forget_set, multi.val.subset(request.matches_forget_set(multi, "val")))
    assert found.low < 0.5 < found.high


def test_a_view_is_divided_as_the_view_it_is():
    image_set = tiny_set(20)
    view = image_set.subset(torch.tensor([3, 1, 5, 13, 0]))
    forget_set, retain_set = split_set(ForgetRequest((1,)), view)
    assert forget_set.indices.tolist() == [1, 5, 13]
    assert retain_set.indices.tolist() == [3, 0]
    dataset = replace(tiny_dataset(), train=view)
    forget_set, retain_set = ForgetRequest((), (1, 4)).split(dataset, "train")
    assert forget_set.indices.tolist() == [1, 0]
    assert retain_set.indices.tolist() == [3, 5, 13]


def test_classes_are_named_by_number_or_name():
    dataset = tiny_dataset(names=["Basophil", "eosinophil", "immature cells (all)", "platelet"])
    for number, name in enumerate(dataset.class_names):
        for text in (str(number), f"0{number}", name, name.upper(), name.lower()):
            assert ForgetRequest.from_classes([text], dataset) == ForgetRequest((number,))
    several = ForgetRequest.from_classes(["platelet", "1", "01"], dataset)
    assert several == ForgetRequest((1, 3))
    assert several.description == "classes 1 eosinophil, 3 platelet"


def test_a_number_is_a_class_number_even_where_names_are_numbers():
    dataset = tiny_dataset(names=["1", "2", "3", "4"])
    assert [class_index(str(n), dataset) for n in range(4)] == [0, 1, 2, 3]


def test_a_name_of_several_classes_is_no_answer():
    dataset = tiny_dataset(names=["cyst", "Cyst", "scar", "scar"])
    assert [class_index(text, dataset) for text in ("cyst", "Cyst")] == [0, 1]
    for text, numbers in (("scar", "2, 3"), ("CYST", "0, 1")):
        with pytest.raises(UserError, match=f"has 2 classes of this name: .*one of {numbers}$"):
            class_index(text, dataset)


@pytest.mark.parametrize(
    "text", ["4", "-1", "1.0", "", " ", "²", "tissue z", "99999999999999999999"]
)
def test_classes_that_are_not_there_are_refused(text):
    with pytest.raises(UserError, match="--class_to_forget .*Tiny has no such class.* 3 tissue d"):
        ForgetRequest.from_classes(["0", text], tiny_dataset())


def test_the_nearest_name_is_proposed():
    with pytest.raises(UserError, match="did you mean platelet"):
        class_index("platlet", tiny_dataset(2, names=["basophil", "platelet"]))


def test_some_class_has_to_be_kept():
    with pytest.raises(UserError, match="names every class of Tiny: none is kept"):
        ForgetRequest.from_classes(["0", "1", "2", "3"], tiny_dataset())


@pytest.mark.parametrize(
    ("classes", "indices"),
    [((), None), ((), ()), ((1,), (2,)), ((3, 1), None), ((1, 1), None), ((), (4, 2))],
)
def test_what_is_no_request(classes, indices):
    with pytest.raises(ValueError):
        ForgetRequest(classes, indices)


# Records and ids


def test_one_class_is_recorded_and_named_as_ever():
    for number in (0, 3, 10):
        request = ForgetRequest((number,))
        assert request.record() == {"class_to_forget": number}
        assert request.id_part() == str(number)
        assert ForgetRequest.from_record({"class_to_forget": number}) == request
        assert saliency_path("base", request).name == f"class_{number}.pt"


def test_a_request_comes_back_from_its_record_and_stands_in_ids():
    dataset = tiny_dataset()
    for request in requests_of(dataset):
        again = ForgetRequest.from_record(request.record())
        assert again == request
        assert again.id_part() == request.id_part()
    assert ForgetRequest((1, 3)).record() == {"class_to_forget": [1, 3]}
    assert LISTED.record()["forget_indices"] == [0, 5, 7, 11]
    ids = [request.id_part() for request in requests_of(dataset)[4:]]
    digest = hashlib.sha256(b"0,5,7,11").hexdigest()[:12]
    assert ids == ["1-3", "f25-s1", "0-2-f5-s2", f"samples-{digest}"]
    names = [saliency_path("base", request).name for request in requests_of(dataset)[4:]]
    assert names == ["class_1-3.pt", "f25-s1.pt", "0-2-f5-s2.pt", f"samples-{digest}.pt"]


def test_what_a_results_file_says_of_it():
    dataset = tiny_dataset()
    assert ForgetRequest.from_classes(["2"], dataset).summary(dataset) == {
        "class_to_forget": 2,
        "forget_id": "2",
        "forget_words": "class 2 tissue c",
        "forget_count": 6,
    }
    brief = LISTED.summary(dataset)
    assert (brief["class_to_forget"], brief["forget_count"]) == (None, 4)
    assert brief["forget_words"] == "4 listed training images"


def test_what_a_model_has_forgotten():
    dataset = tiny_dataset()
    tail = "GA_unlearnEpochs5_unlearnlr001"
    for forgotten, expected in (("3", (3,)), ("0-2", (0, 2))):
        request = ForgetRequest.from_model(f"base_FORGOTTEN_{forgotten}_{tail}", {}, dataset)
        assert request.classes == expected
    for forgotten in ("f1-s1", "3-f1-s1", "samples-0123456789ab"):
        with pytest.raises(UserError, match="no record of which images it has forgotten"):
            ForgetRequest.from_model(f"base_FORGOTTEN_{forgotten}_{tail}", {}, dataset)
    with pytest.raises(UserError, match="has forgotten nothing: give the --class_to_forget"):
        ForgetRequest.from_model("base", {}, dataset)
    old = ForgetRequest.from_model("any", {"forget_request": {"class_to_forget": 3}}, dataset)
    assert (old, old.description) == (ForgetRequest((3,)), "class 3 tissue d")
    record = {
        "forget_request": LISTED.record(),
        "forget_words": "of patient 17",
        "train_digest": dataset.train_digest(),
    }
    listed = ForgetRequest.from_model("any", record, dataset)
    assert (listed, listed.description) == (LISTED, "of patient 17")
    with pytest.raises(UserError, match="Tiny is other data"):
        ForgetRequest.from_model("any", record | {"train_digest": "0"}, dataset)


# A random share


def test_a_share_is_drawn_by_its_seed():
    dataset = tiny_dataset(train=200)
    first = ForgetRequest.from_fraction(0.1, 1, None, dataset)
    assert first == ForgetRequest.from_fraction(0.1, 1, None, dataset)
    assert first != ForgetRequest.from_fraction(0.1, 2, None, dataset)
    assert len(first.indices) == 20
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    assert first.indices == tuple(sorted(order[:20].tolist()))
    assert first.description == "10% of the training images, drawn with seed 1"
    of_class = ForgetRequest.from_fraction(0.5, 1, ["tissue d", "1"], dataset)
    assert len(of_class.indices) == 50
    assert {index % 4 for index in of_class.indices} == {1, 3}
    words = "50% of the training images of classes 1 tissue b, 3 tissue d, drawn with seed 1"
    assert of_class.description == words
    with pytest.raises(UserError, match="--forget_fraction 0.001 of 200 images is no image"):
        ForgetRequest.from_fraction(0.001, 1, None, dataset)


def test_shares_never_share_an_id():
    dataset = tiny_dataset()
    asked = itertools.product(
        (0.1, 0.11, 0.1 + 1e-9, 0.25, 0.5, 0.9), (0, 1, 11), (None, ["1"], ["1", "3"])
    )
    ids = [ForgetRequest.from_fraction(*each, dataset).id_part() for each in asked]
    ids += [ForgetRequest(classes).id_part() for classes in ((1,), (1, 3), (11,), (13,))]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("multi_label", [False, True])
def test_all_images_of_a_class_are_the_class(multi_label):
    dataset = tiny_dataset(multi_label=multi_label)
    for texts in (["3"], ["tissue b", "3"]):
        whole = ForgetRequest.from_fraction(1.0, 1, texts, dataset)
        assert whole == ForgetRequest.from_classes(texts, dataset)
        assert whole.id_part() == "-".join(map(str, whole.classes))
        assert 3 not in whole.kept_classes(dataset.num_classes)
    assert ForgetRequest.from_fraction(1.0, 1, None, dataset).indices == tuple(range(24))


# Files


@pytest.fixture
def metadata(tmp_path):
    """24 rows: patients 0 to 11 in turn, two devices in blocks of six."""
    path = tmp_path / "metadata.csv"
    rows = [f"{n % 12}, Cirrus {800 + n // 6 % 2}" for n in range(24)]
    path.write_text("\n".join(["patient_id,device", *rows, "", ""]))
    return path


def write(tmp_path, text):
    path = tmp_path / "list.txt"
    path.write_text(text)
    return path


def test_a_list_of_images(tmp_path):
    path = write(tmp_path, "# patient 17\n\n5\n  0 # twice scanned\n007\n11\n")
    request = request_from_indices_file(path, tiny_dataset())
    assert request == LISTED
    assert request.description == "4 listed training images"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1\nx\n", "list.txt, line 2: 'x' is not a whole number"),
        ("1.0\n", "line 1: '1.0' is not a whole number"),
        ("²\n", "line 1: '²' is not a whole number"),
        ("1 2\n", "line 1: '1 2' is not a whole number"),
        (
            "\n\n24\n",
            "line 3: '24' is not the index of a training image: give a number from 0 to 23",
        ),
        ("-1\n", "line 1: '-1' is not the index of a training image"),
        ("9" * 5000, "line 1: '9.*' is not the index of a training image"),
        ("3\n# again\n03\n", "line 3: 3 is a duplicate of line 1: give each index once"),
        ("# nothing\n", "contains no index"),
        ("", "contains no index"),
    ],
)
def test_faults_of_a_list(tmp_path, text, says):
    with pytest.raises(UserError, match=says):
        request_from_indices_file(write(tmp_path, text), tiny_dataset())


def test_images_by_metadata(metadata, tmp_path):
    dataset = tiny_dataset()
    one = request_from_metadata(metadata, ["patient_id=3"], dataset)
    assert one.indices == (3, 15)
    assert one.description == "training images with patient_id=3"
    both = request_from_metadata(metadata, ["patient_id=3", " device = Cirrus 800 "], dataset)
    assert both.description == "training images with patient_id=3, device=Cirrus 800"
    assert both.indices == (3, 15)
    listed = request_from_indices_file(write(tmp_path, "15\n3\n"), dataset)
    assert listed == one == both
    assert listed.id_part() == one.id_part()


def test_lines_end_where_people_see_them_end(tmp_path):
    text = "5 # seen\f7\n3 # and\x856 and\u20288\r\n11\r0\n"
    assert request_from_indices_file(write(tmp_path, text), tiny_dataset()).indices == (0, 3, 5, 11)


def test_a_column_may_have_any_name(tmp_path):
    rows = "".join(f"{n % 3},{n % 2}\n" for n in range(24))
    path = write(tmp_path, f"a,a=b\n{rows}")
    assert request_from_metadata(path, ["a=b=1"], tiny_dataset()).indices == tuple(range(1, 24, 2))
    assert request_from_metadata(path, ["a=1"], tiny_dataset()).indices == tuple(range(1, 24, 3))


def test_words_of_a_request_can_be_shown_and_its_conditions_are_exact(tmp_path):
    name = "\x1b[31m\u674e" + "x" * 3000
    rows = "".join(f"{name if n < 2 else name + 'y'}\n" for n in range(24))
    request = request_from_metadata(write(tmp_path, f"id\n{rows}"), [f"id={name}"], tiny_dataset())
    assert request.indices == (0, 1)
    assert request.description.isprintable()
    assert r"id=\x1b[31m\u674exxx" in request.description
    assert len(request.description) < 120
    with pytest.raises(UserError) as error:
        request_from_metadata(write(tmp_path, f"id\n{rows}"), [f"id={name}z"], tiny_dataset())
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("conditions", "says"),
    [
        (
            ["patient=3"],
            r"has no such column \(did you mean patient_id\?\); it has patient_id, dev",
        ),
        (["patient_id"], "--forget_where patient_id: give a condition as COLUMN=VALUE"),
        (["=3"], "give a condition as COLUMN=VALUE"),
        (
            ["patient_id=99"],
            "no training image has patient_id=99; values: '0', '1', .*, ...",
        ),
        (["device=cirrus 800"], "has device=cirrus 800; values: 'Cirrus 800', 'Cirrus 801'"),
        (
            ["patient_id=3", "device=Cirrus 801"],
            "no training image with patient_id=3 has device=Cirrus 801; values: 'Cirrus 800'$",
        ),
        (["patient_id=3", "patient_id=4"], "patient_id cannot be both 3 and 4: all conditions"),
    ],
)
def test_conditions_that_nothing_meets(metadata, conditions, says):
    with pytest.raises(UserError, match=says):
        request_from_metadata(metadata, conditions, tiny_dataset())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty: give a header"),
        ("id;age\n" + "1;2\n" * 24, "single column, 'id;age': save the file with commas"),
        ('id\n1\n"1\n' + "1\n" * 22, "line 3: a quote that opens there is never closed"),
        ("id\n1\n2\n", "has 2 rows below its header for 24 training images"),
        ("id,sex\n" + "1,f\n" * 23 + "1\n", "line 25: expected 2 columns as in the header, not 1"),
        ("id,id\n" + "1,2\n" * 24, "has more than one column id"),
    ],
)
def test_faults_of_a_metadata_file(tmp_path, text, says):
    with pytest.raises(UserError, match=says):
        request_from_metadata(write(tmp_path, text), ["id=1"], tiny_dataset())


# Empty sets


def test_empty_sets_are_refused():
    image_set = tiny_set(8, 2)
    dataset = replace(tiny_dataset(), train=image_set)
    with pytest.raises(UserError, match="class 3 has no training image: nothing to forget"):
        ForgetRequest((3,)).split_for_unlearning(dataset)
    with pytest.raises(UserError, match="classes 2, 3 have no training image"):
        ForgetRequest((2, 3)).split_for_unlearning(dataset)
    alone = replace(dataset, train=image_set.subset(image_set.labels == 1))
    with pytest.raises(UserError, match="every training image is of class 1: nothing remains"):
        ForgetRequest((1,)).split_for_unlearning(alone)
    with pytest.raises(UserError, match="every training image is to be forgotten: nothing remains"):
        ForgetRequest((), tuple(range(8))).split_for_unlearning(dataset)
    forget_set, retain_set = ForgetRequest((1,)).split_for_unlearning(dataset)
    assert (len(forget_set), len(retain_set)) == (4, 4)


# What is asked


def test_losses_of_what_is_to_be_forgotten_by_hand():
    logits = torch.tensor([[0.0, 2.0], [1.0, -1.0]])
    single = ForgetRequest((1,)).losses(logits, torch.tensor([1, 1]))
    torch.testing.assert_close(single, -(logits[:, 1].exp() / logits.exp().sum(1)).log())
    multi = ForgetRequest((1,)).losses(logits, torch.tensor([[0, 1], [1, 1]]))
    torch.testing.assert_close(multi, -logits[:, 1].sigmoid().log())


def test_one_finding_is_asked_about_as_ever():
    logits, labels = torch.randn(5, 4), tiny_set(5, multi_label=True).labels
    asked, answers = ForgetRequest((2,)).scored_logits(logits, labels)
    assert torch.equal(asked, torch.stack([torch.zeros(5), logits[:, 2]], 1))
    assert torch.equal(answers, labels[:, 2])


def test_several_findings_by_hand():
    logits = torch.tensor([[2.0, -1.0, 0.5], [2.0, -1.0, 0.5], [2.0, -1.0, 0.5]])
    labels = torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 1]])
    p = torch.sigmoid(logits[0].double())
    # findings 0 and 1: both are there; only 1 is; neither is, and both are asked about
    right = {
        ForgetRequest((0, 1)): [(p[0] * p[1]) ** 0.5, p[1], ((1 - p[0]) * (1 - p[1])) ** 0.5],
        LISTED: [
            (p[0] * p[1] * (1 - p[2])) ** (1 / 3),
            ((1 - p[0]) * p[1] * p[2]) ** (1 / 3),
            ((1 - p[0]) * (1 - p[1]) * p[2]) ** (1 / 3),
        ],
    }
    recognised = {ForgetRequest((0, 1)): [0.5, 0, 0.5], LISTED: [1 / 3, 1 / 3, 2 / 3]}
    for request, geometric in right.items():
        asked, answers = request.scored_logits(logits, labels)
        assert asked.dtype == torch.float64 and answers.tolist() == [1, 1, 1]
        found = asked.softmax(1)[:, 1]
        torch.testing.assert_close(found, torch.stack(geometric))
        losses = request.losses(logits, labels)
        assert losses.dtype == torch.float32
        torch.testing.assert_close(losses.double().neg().exp(), found)
        torch.testing.assert_close(
            request.correct_fraction(logits, labels), torch.tensor(recognised[request])
        )


def test_the_question_is_exact_for_very_sure_and_very_wrong_answers():
    for sure in (1e-3, 30.0, 100.0, 700.0, 1e4):
        labels = torch.tensor([[1, 0], [0, 1]])
        asked, _ = LISTED.scored_logits(torch.tensor([[sure, -sure], [sure, -sure]]), labels)
        assert asked.isfinite().all()
        right, wrong = asked[:, 1].tolist()
        # both answers alike: the mean is either's own probability
        assert right == pytest.approx(min(sure, -math.log(np.finfo(float).tiny)), rel=1e-5)
        assert wrong == pytest.approx(-sure, rel=1e-5)


def test_losses_can_be_descended():
    labels = torch.tensor([[1, 0, 1], [0, 0, 0]])
    for request in (LISTED, ForgetRequest((0, 2))):
        logits = torch.zeros(2, 3, requires_grad=True)
        request.losses(logits, labels).sum().backward()
        asked = request.scored_findings(labels)
        expected = (0.5 - labels) / asked.sum(1, keepdim=True) * asked
        torch.testing.assert_close(logits.grad, expected)


def test_chance_loss_is_that_of_a_model_without_an_idea():
    for labels in (torch.tensor([1, 1]), torch.tensor([[0, 1, 0, 0], [1, 1, 0, 1]])):
        logits = torch.zeros(2, 4)
        for request in (ForgetRequest((1,)), ForgetRequest((1, 2)), LISTED):
            chance = torch.full((2,), request.chance_loss(logits, labels))
            torch.testing.assert_close(request.losses(logits, labels), chance)


def test_kept_classes():
    assert ForgetRequest((1, 3)).kept_classes(5) == [0, 2, 4]
    assert LISTED.kept_classes(3) == [0, 1, 2]


# Wrong labels


def test_wrong_labels_of_one_class_are_drawn_as_ever():
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


def test_wrong_findings_of_several_and_of_single_images():
    generator = torch.Generator().manual_seed(0)
    labels = tiny_set(4000, 6, multi_label=True).labels
    labels[0] = 1
    labels[1] = 0
    request = ForgetRequest((1, 4))
    covered = labels[request.has_requested_class(labels)]
    wrong = draw_wrong_labels(covered, 6, request, generator)
    assert not wrong[:, [1, 4]].any()
    others = [0, 2, 3, 5]
    assert (wrong[:, others] >= covered[:, others]).all()  # the others only ever join
    alone = covered[:, others].sum(1) == 0  # here what is switched on always shows
    assert torch.equal(wrong[alone].sum(1), covered[alone].sum(1))
    assert (wrong[alone].sum(0)[others] / wrong[alone].sum() - 0.25).abs().max() < 0.07
    wrong = draw_wrong_labels(labels, 6, LISTED, generator)
    assert not (wrong & labels).any()
    wanted = torch.minimum(labels.sum(1).clamp(min=1), 6 - labels.sum(1))
    assert torch.equal(wrong.sum(1), wanted)
    assert (wrong != labels).any(1).all()


def test_views_of_other_images_cannot_be_joined():
    first, second = tiny_set(4), tiny_set(4)
    with pytest.raises(ValueError, match="views of the same images"):
        first.concat(ImageSet.from_tensors(second.images, first.labels))

"""Pictures of a model before and after unlearning show the given values."""

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgba

from evaluation.audit import BASE, MODEL
from evaluation.outputs import compute_outputs
from evaluation.pictures import before_and_after
from tests.helpers.pictures import check_labels, check_png, legend_texts
from tests.helpers.tiny import tiny_dataset, tiny_model
from unlearn.request.request import ForgetRequest
from utils.plots import before_after as plots
from utils.plots.figures import FORGET, RETAIN, TEST

CLASS_NAMES = ["basophil", "immature granulocytes(myelocytes, metamyelocytes)", "a$b$"]
BEFORE = np.array([[90, 10, 0], [5, 60, 0], [0, 0, 0]])
AFTER = np.array([[80, 20, 0], [0, 5, 60], [0, 0, 0]])
MODELS = ("base model", "unlearned model", "Retrain")
MODEL_ID = "blood_best_FORGOTTEN_3_RL_WITH_SALUN_mask5_unlearnEpochs5_unlearnlr001\non BloodMNIST"
SETS = {
    "forget set": np.array([0.0, 0.01, 0.99, 1.0]),
    "retain set": np.array([0.5, 0.97, 1.0000001]),  # rounding does that
    "test set": np.array([0.26]),
}
LABELS = np.array([0, 1, 2, 1, 0, 2])
FORGOTTEN = LABELS == 1
POINTS = {model: np.arange(12.0).reshape(6, 2) * (index + 1) for index, model in enumerate(MODELS)}


def all_figures(class_names, panel_count):
    """Return one of each picture, for as many classes as names."""
    count = len(class_names)
    models = MODELS[:panel_count]
    random = np.random.default_rng(0)
    confusion = np.full((count, count), 12345)
    before = None if panel_count == 1 else confusion
    labels = random.integers(0, count, 1000)
    points = {model: random.normal(size=(1000, 2)) for model in models}
    shares = {name: random.random(100) for name in SETS}
    arguments = (points, labels, class_names, MODEL_ID)
    return {
        "confusion": plots.confusion_before_and_after(
            before, confusion, class_names, MODEL_ID, [1]
        ),
        "confidences": plots.confidence_histograms(dict.fromkeys(models, shares), MODEL_ID),
        "no_confidences": plots.confidence_histograms(
            dict.fromkeys(models, dict.fromkeys(SETS, [])), MODEL_ID
        ),
        "features": plots.feature_map(
            *arguments, labels == 1, explained=dict.fromkeys(models, (0.5, 0.25))
        ),
        "features_of_some": plots.feature_map(*arguments, np.arange(1000) % 9 == 0),
    }


def panel_titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def cell_counts(axes):
    return {
        (round(text.get_position()[1]), round(text.get_position()[0])): int(text.get_text())
        for text in axes.texts
    }


def groups_of(axes):
    """The points of each name in a feature map, as lists of pairs."""
    return {mark.get_label(): mark.get_offsets().tolist() for mark in axes.collections}


def marks_of(axes):
    """The colour and the shape of each name in a feature map."""
    return {
        mark.get_label(): (
            to_hex(mark.get_facecolor()[0]).upper(),
            mark.get_paths()[0].vertices.round(3).tobytes(),
        )
        for mark in axes.collections
    }


def outlines(axes):
    """The outline of each set's histogram by the set's name."""
    return {step.get_label(): step for step in axes.patches if step.get_label()}


def test_both_confusion_matrices_under_one_scale():
    figure = plots.confusion_before_and_after(BEFORE, AFTER, CLASS_NAMES, "model")
    before, after, scale = figure.axes
    assert panel_titles(figure) == ["base model", "unlearned model"]
    assert cell_counts(before) == dict(np.ndenumerate(BEFORE))
    assert cell_counts(after) == dict(np.ndenumerate(AFTER))
    assert before.images[0].get_array()[0].tolist() == [90, 10, 0]
    assert after.images[0].get_array()[0].tolist() == [80, 20, 0]
    assert {axes.images[0].get_clim() for axes in (before, after)} == {(0, 100)}
    assert scale.get_ylabel() == "percentage of the true class"
    assert not before.patches and not after.patches


def test_forgotten_class_is_marked_in_both_matrices():
    figure = plots.confusion_before_and_after(BEFORE, AFTER, CLASS_NAMES, "model", forgotten=[1])
    before, after, _ = figure.axes
    for axes in (before, after):
        (frame,) = axes.patches
        assert to_hex(frame.get_edgecolor()).upper() == FORGET
        assert (frame.get_x(), frame.get_y(), frame.get_width()) == (-0.5, 0.5, 3)
    assert before.get_yticklabels()[1].get_text().endswith("(forgotten)")
    figure.draw_without_rendering()
    assert before.get_yticklabels()[0].get_visible() and before.get_ylabel() == "true class"
    assert not any(label.get_visible() for label in after.get_yticklabels())
    assert not after.get_ylabel()


def test_confusion_of_one_model():
    figure = plots.confusion_before_and_after(None, AFTER, CLASS_NAMES, "model", forgotten=[0])
    axes, _ = figure.axes
    assert panel_titles(figure) == ["this model"]
    assert cell_counts(axes) == dict(np.ndenumerate(AFTER))
    assert axes.get_yticklabels()[0].get_text() == "0 basophil\n(forgotten)"


def test_histograms_are_percentages_of_each_set():
    figure = plots.confidence_histograms({"base model": SETS, "Retrain": SETS}, "models")
    assert panel_titles(figure) == ["base model", "Retrain"]
    for axes in figure.axes:
        drawn = outlines(axes)
        assert list(drawn) == list(SETS)
        percent = {name: np.nan_to_num(step.get_data().values) for name, step in drawn.items()}
        assert percent["forget set"].tolist() == [50] + 18 * [0] + [50]
        assert np.flatnonzero(percent["retain set"]).tolist() == [10, 19]
        assert percent["retain set"][19] == pytest.approx(200 / 3)
        assert percent["test set"].tolist() == 5 * [0] + [100] + 14 * [0]
        for name, step in drawn.items():
            assert np.allclose(step.get_data().edges, np.linspace(0, 1, 21))
            (fill,) = (
                patch
                for patch in axes.patches
                if patch.get_fill() and to_rgba(patch.get_facecolor())[:3] == step_color(step)
            )
            assert fill.get_data().values.tolist() == percent[name].tolist()
    left, right = figure.axes
    assert left.get_ylim() == right.get_ylim() and left.get_ylim()[0] == 0
    assert left.get_ylim()[1] >= 100


def step_color(step):
    return to_rgba(step.get_edgecolor())[:3]


def test_sets_differ_in_color_and_in_line():
    figure = plots.confidence_histograms({"base model": SETS}, "model")
    drawn = outlines(figure.axes[0]).values()
    assert [to_hex(step.get_edgecolor()).upper() for step in drawn] == [FORGET, RETAIN, TEST]
    assert len({step.get_linestyle() for step in drawn}) == 3
    assert legend_texts(figure) == list(SETS)
    in_legend = figure.legends[0].get_lines()
    assert [line.get_color() for line in in_legend] == [FORGET, RETAIN, TEST]


def test_a_set_without_images_is_marked_as_empty():
    sets = SETS | {"test set": np.empty(0)}
    figure = plots.confidence_histograms(dict.fromkeys(MODELS, sets), "models")
    assert legend_texts(figure) == ["forget set", "retain set", "test set (no image)"]
    assert all("test set" not in outlines(axes) for axes in figure.axes)


def test_a_probability_that_is_not_a_number_is_an_error():
    with pytest.raises(ValueError, match="retain set"):
        plots.confidence_histograms({"base model": SETS | {"retain set": [0.5, np.nan]}}, "model")


def test_feature_map_shows_every_point_once():
    explained = {"base model": (0.614, 0.2), "Retrain": (0.5, 0.1)}
    figure = plots.feature_map(POINTS, LABELS, CLASS_NAMES, "models", FORGOTTEN, explained)
    assert panel_titles(figure) == list(MODELS)
    names = ["forget set: 1 immature granulocytes…", "0 basophil", "2 a$b$"]
    assert legend_texts(figure) == names
    for axes, points in zip(figure.axes, POINTS.values(), strict=True):
        assert groups_of(axes) == {
            name: points[number == LABELS].tolist()
            for name, number in zip(names, (1, 0, 2), strict=True)
        }
    base, unlearned, _ = figure.axes
    assert base.get_xlabel() == "first principal component\n(61% of the variance)"
    assert base.get_ylabel() == "second principal component\n(20% of the variance)"
    assert unlearned.get_xlabel() == "first principal component"


def test_panels_of_a_feature_map_have_their_own_limits():
    figure = plots.feature_map(POINTS, LABELS, CLASS_NAMES, "models", FORGOTTEN)
    figure.draw_without_rendering()
    assert len({axes.get_xlim() for axes in figure.axes}) == 3


def test_forget_set_is_on_top_in_its_color_and_shape():
    axes = plots.feature_map(POINTS, LABELS, CLASS_NAMES, "model", FORGOTTEN).axes[0]
    forget, *kept = axes.collections
    assert all(forget.get_zorder() > other.get_zorder() for other in kept)
    marks = marks_of(axes)
    color, shape = marks.pop(forget.get_label())
    assert color == FORGET
    assert all(other != (color, shape) for other in marks.values())
    assert all(other_color != color for other_color, _ in marks.values())
    assert all(other_shape != shape for _, other_shape in marks.values())


def test_forget_set_of_some_images_of_a_class_and_of_several():
    some = np.array([False, True, False, False, False, False])
    figure = plots.feature_map(POINTS, LABELS, CLASS_NAMES, "model", some)
    assert legend_texts(figure)[0].startswith("forget set: 1 ")
    groups = groups_of(figure.axes[0])
    assert groups["1 immature granulocytes…"] == POINTS["base model"][[3]].tolist()
    several = np.array([True, True, False, False, False, False])
    figure = plots.feature_map(POINTS, LABELS, CLASS_NAMES, "model", several)
    assert legend_texts(figure)[0] == "forget set"


def test_feature_map_of_an_empty_forget_set():
    figure = plots.feature_map(POINTS, LABELS, CLASS_NAMES, "model", np.zeros(6, bool))
    assert legend_texts(figure)[0] == "forget set (no image)"
    assert groups_of(figure.axes[0])["forget set (no image)"] == []


def test_up_to_twenty_classes_have_different_marks():
    count = plots.MAX_DISTINCT_CLASSES
    labels = np.arange(count)
    points = {"base model": np.stack([labels, labels], 1)}
    names = [f"tissue {number}" for number in labels]
    figure = plots.feature_map(points, labels, names, "model", labels == count - 1)
    marks = marks_of(figure.axes[0])
    assert len(marks) == len(set(marks.values())) == count
    first = [marks[f"{number} tissue {number}"] for number in range(7)]
    assert len({color for color, _ in first}) == len({shape for _, shape in first}) == 7


def test_more_classes_are_marked_as_kept_or_forgotten():
    count = plots.MAX_DISTINCT_CLASSES + 1
    labels = np.arange(count)
    points = {"base model": np.stack([labels, labels], 1)}
    figure = plots.feature_map(points, labels, [str(n) for n in labels], "model", labels == 5)
    assert legend_texts(figure) == ["forget set: 5", "kept"]
    groups = groups_of(figure.axes[0])
    assert groups["forget set: 5"] == [[5, 5]]
    assert len(groups["kept"]) == count - 1


EXTREMES = ((2, 1), (14, 3), (40, 2))  # of the sizes of files; the others lie in between


@pytest.mark.parametrize(
    "count, panel_count", [(2, 1), (2, 3), (8, 2), (14, 1), (14, 2), (14, 3), (40, 2)]
)
def test_pictures_are_small_legible_and_drawn_without_warnings(count, panel_count):
    for name, figure in all_figures((CLASS_NAMES * count)[:count], panel_count).items():
        if (count, panel_count) in EXTREMES:
            check_png(name, figure, largest=200_000)  # a point is more to store than a bar
        check_labels(name, figure)


def test_names_without_formulas():
    figure = plots.feature_map(POINTS, LABELS, CLASS_NAMES, "a$b$", FORGOTTEN)
    assert not any(text.get_parse_math() for text in figure.legends[0].get_texts())


def test_figures_stay_out_of_pyplot():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    all_figures(CLASS_NAMES, 2)
    assert plt.get_fignums() == before


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_map_contains_a_rare_class(monkeypatch, multi_label, seed):
    """A random sample of 10 of 61 images would rarely contain the one image."""
    monkeypatch.setattr("evaluation.pictures.MAPPED", 10)
    monkeypatch.setattr("evaluation.pictures.MAPPED_FORGOTTEN", 4)
    dataset = tiny_dataset(multi_label=multi_label, train=60)
    labels = dataset.train.labels
    if multi_label:
        labels[:, 2] = 0
        labels[17, 2] = 1
    else:
        labels[labels == 2] = 1
        labels[17] = 2
    for number, expected in ((2, 1), (1, 4)):
        request = ForgetRequest((number,))
        outputs = {MODEL: compute_outputs(tiny_model(), dataset, request)}
        figures = before_and_after(outputs, dataset, request, "model", seed)
        sizes = [len(points) for points in groups_of(figures["features"].axes[0]).values()]
        assert (sizes[0], sum(sizes)) == (expected, 10)


def test_a_model_without_a_base_is_this_model():
    dataset = tiny_dataset()
    request = ForgetRequest((1,))
    outputs = {MODEL: compute_outputs(tiny_model(), dataset, request)}
    both = {BASE: outputs[MODEL]} | outputs
    for parts, titles in ((outputs, ["this model"]), (both, ["base model", "unlearned model"])):
        for name, figure in before_and_after(parts, dataset, request, "model").items():
            if not name.startswith("forgotten"):
                assert panel_titles(figure) == titles, name

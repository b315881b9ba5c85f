"""The sample viewer: the images of each key, with and without a window."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backend_bases import KeyEvent
from PIL import Image

from utils.plots import viewer as viewer_module
from utils.plots.viewer import SampleViewer, class_of_key, key_help, key_of_class, window_available

LONG_NAME = "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)"
CLASS_NAMES = [f"kind {number}" for number in range(10)] + [LONG_NAME, "last"]
SMALL_CLASS, SMALL_CLASS_SIZE, EMPTY_CLASS = 4, 3, 7
IMAGES_PER_CLASS = 50
ROWS, COLS = 2, 4
CELLS = ROWS * COLS


def make_labels():
    """Return labels of 50 images per class, except for a class of 3 and an empty class."""
    sizes = [IMAGES_PER_CLASS] * len(CLASS_NAMES)
    sizes[SMALL_CLASS], sizes[EMPTY_CLASS] = SMALL_CLASS_SIZE, 0
    labels = np.repeat(np.arange(len(CLASS_NAMES)), sizes)
    return np.random.default_rng(0).permutation(labels)


LABELS = make_labels()


def make_viewer(seed=1, channels=3, **changes):
    """Every pixel of image n is n % 256, which identifies the image of a cell."""
    count = len(LABELS)
    shades = torch.arange(count).remainder(256).to(torch.uint8)
    arguments = {
        "images": shades.view(-1, 1, 1, 1).expand(count, channels, 6, 6),
        "members": torch.tensor(LABELS[:, None] == np.arange(len(CLASS_NAMES))),
        "titles": [f"GT: {label}" for label in LABELS],
        "class_names": CLASS_NAMES,
        "rows": ROWS,
        "cols": COLS,
        "seed": seed,
        "heading": "Drawn test",
    }
    return SampleViewer(**(arguments | changes))


def press(viewer, key):
    """Send `key` like a window."""
    canvas = viewer.figure.canvas
    canvas.callbacks.process("key_press_event", KeyEvent("key_press_event", canvas, key))


def filled_cells(viewer):
    return [axes for axes in viewer.figure.axes if axes.images[0].get_visible()]


def heading_of(viewer):
    return viewer.figure.get_suptitle().replace("\n", " ")


def all_text(viewer):
    return " ".join(text.get_text() for text in viewer.figure.texts)


@pytest.mark.parametrize(
    "key, number",
    [("0", 0), ("3", 3), ("9", 9), ("kp_2", 2), ("f1", 10), ("f2", 11)],
)
def test_a_key_shows_its_class_only(key, number):
    viewer = make_viewer()
    press(viewer, key)
    assert len(viewer.shown) == len(set(viewer.shown)) == CELLS
    assert set(LABELS[viewer.shown]) == {number}
    assert {axes.get_title() for axes in viewer.figure.axes} == {f"GT: {number}"}
    assert heading_of(viewer).startswith(f"Drawn test: class {number} ")
    assert heading_of(viewer).endswith("(50 images)")


@pytest.mark.parametrize("channels", [1, 3])
def test_each_cell_shows_the_pixels_of_its_image(channels):
    viewer = make_viewer(channels=channels)
    press(viewer, "6")
    for axes, index in zip(viewer.figure.axes, viewer.shown, strict=True):
        pixels = axes.images[0].get_array()
        assert pixels.shape == ((6, 6) if channels == 1 else (6, 6, 3))
        assert (pixels == index % 256).all()
        assert axes.images[0].get_interpolation() == "nearest"
        assert axes.images[0].get_clim() == (0, 255)


def test_space_shows_another_mix_without_repeats():
    viewer = make_viewer()
    first = list(viewer.shown)
    assert "a random mix" in heading_of(viewer)
    press(viewer, "3")
    press(viewer, " ")
    assert len(set(viewer.shown)) == CELLS
    assert list(viewer.shown) != first
    assert len(set(LABELS[viewer.shown])) > 1
    assert "a random mix" in heading_of(viewer)


def test_the_same_class_key_again_shows_other_images():
    viewer = make_viewer()
    press(viewer, "3")
    first = set(viewer.shown)
    press(viewer, "3")
    assert set(viewer.shown) != first


@pytest.mark.parametrize("key", ["f3", "f12"])
def test_a_key_without_a_class_keeps_the_grid_and_shows_a_hint(key):
    viewer = make_viewer()
    press(viewer, "3")
    before, heading = list(viewer.shown), heading_of(viewer)
    press(viewer, key)
    assert list(viewer.shown) == before and heading_of(viewer) == heading
    hint = f"no class {class_of_key(key)}"
    assert hint in all_text(viewer)
    press(viewer, "3")
    assert hint not in all_text(viewer)


@pytest.mark.parametrize(
    "key", ["f", "g", "k", "l", "s", "q", "home", "left", "ctrl+3", "alt+f1", "f0", "escape", None]
)
def test_other_keys_do_nothing(key):
    viewer = make_viewer()
    before, texts = list(viewer.shown), all_text(viewer)
    press(viewer, key)
    assert list(viewer.shown) == before and all_text(viewer) == texts


def test_a_small_class_leaves_blank_cells():
    viewer = make_viewer()
    press(viewer, "4")
    assert sorted(viewer.shown) == sorted(np.flatnonzero(LABELS == SMALL_CLASS))
    assert len(filled_cells(viewer)) == SMALL_CLASS_SIZE
    assert [axes.get_title() for axes in viewer.figure.axes].count("") == CELLS - SMALL_CLASS_SIZE
    assert "(3 images)" in heading_of(viewer)
    press(viewer, "5")
    assert len(filled_cells(viewer)) == CELLS


def test_an_empty_class_is_shown_as_empty():
    viewer = make_viewer()
    press(viewer, str(EMPTY_CLASS))
    assert len(viewer.shown) == 0 and not filled_cells(viewer)
    assert heading_of(viewer) == "Drawn test: class 7 kind 7 (no images)"


def test_an_image_can_belong_to_several_classes_or_to_none():
    members = np.array([[1, 1], [0, 1], [0, 0]], bool)
    viewer = make_viewer(
        images=torch.zeros(3, 1, 4, 4, dtype=torch.uint8),
        members=members,
        titles=["a", "b", "c"],
        class_names=["x", "y"],
    )
    assert sorted(viewer.shown) == [0, 1, 2]
    press(viewer, "0")
    assert sorted(viewer.shown) == [0]
    assert heading_of(viewer) == "Drawn test: class 0 x (1 image)"
    press(viewer, "1")
    assert sorted(viewer.shown) == [0, 1]


def test_no_image_at_all():
    viewer = make_viewer(
        images=torch.zeros(0, 3, 4, 4, dtype=torch.uint8),
        members=np.zeros((0, 1), bool),
        titles=[],
        class_names=["x"],
    )
    press(viewer, "0")
    assert len(viewer.shown) == 0


def test_the_seed_determines_the_images():
    grids = []
    for seed in (1, 1, 2):
        viewer = make_viewer(seed=seed)
        grid = list(viewer.shown)
        for key in ("3", " ", "f1"):
            press(viewer, key)
            grid += list(viewer.shown)
        grids.append(grid)
    assert grids[0] == grids[1] != grids[2]


def test_titles_take_their_colors():
    colors = ["green" if label % 2 else "red" for label in LABELS]
    viewer = make_viewer(title_colors=colors)
    for key, color in (("3", "green"), ("2", "red")):
        press(viewer, key)
        assert {axes.title.get_color() for axes in viewer.figure.axes} == {color}


@pytest.mark.parametrize("title", [LONG_NAME, "WWWWWWWWWW MMMMMMMMMMMMMMMMM", "a$b$ {c}", "GT: 3"])
@pytest.mark.parametrize("width_inches", [8, 4])
def test_titles_overlap_neither_neighbours_nor_images(title, width_inches):
    viewer = make_viewer(titles=[title] * len(LABELS), rows=4, cols=5)
    viewer.figure.set_size_inches(width_inches, 7.5)
    canvas = viewer.figure.canvas
    canvas.callbacks.process("resize_event", None)
    canvas.draw()
    boxes = [axes.title.get_window_extent() for axes in viewer.figure.axes]
    pictures = [axes.get_window_extent() for axes in viewer.figure.axes]
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])
        assert not any(box.overlaps(picture) for picture in pictures)


def test_a_long_class_name_keeps_the_count_visible():
    viewer = make_viewer(class_names=[*CLASS_NAMES[:10], LONG_NAME * 3, "last"])
    press(viewer, "f1")
    assert heading_of(viewer).endswith("… (50 images)")
    viewer.figure.canvas.draw()
    box = viewer.figure._suptitle.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= viewer.figure.bbox.x1
    assert not any(box.overlaps(axes.title.get_window_extent()) for axes in viewer.figure.axes)


def test_save_writes_the_visible_grid(tmp_path):
    viewer = make_viewer(images=torch.zeros(len(LABELS), 1, 6, 6, dtype=torch.uint8))
    dark = {}
    for key in ("3", str(SMALL_CLASS)):
        press(viewer, key)
        viewer.save(tmp_path / f"{key}.png")
        with Image.open(tmp_path / f"{key}.png") as picture:
            assert picture.format == "PNG"
            dark[key] = (np.asarray(picture.convert("L")) == 0).sum()
    share = dark[str(SMALL_CLASS)] / dark["3"]  # of black pixels: the images, and a little text
    assert share == pytest.approx(SMALL_CLASS_SIZE / CELLS, rel=0.05)


def test_saved_pixels_are_those_of_the_image(tmp_path):
    viewer = make_viewer(rows=1, cols=1)
    viewer.save(tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as picture:
        middle = picture.getpixel((picture.width // 2, picture.height // 2))
    assert middle == (viewer.shown[0] % 256,) * 3


def test_mismatched_shapes_are_refused():
    with pytest.raises(ValueError, match="images must be"):
        make_viewer(images=torch.zeros(len(LABELS), 2, 6, 6, dtype=torch.uint8))
    with pytest.raises(ValueError, match="members must be"):
        make_viewer(class_names=["one"])
    with pytest.raises(ValueError, match="titles"):
        make_viewer(titles=["too few"])
    with pytest.raises(ValueError, match="titles"):
        make_viewer(title_colors=["red"])


def test_key_help_has_one_line_per_class():
    lines = key_help(CLASS_NAMES).splitlines()
    for number, name in enumerate(CLASS_NAMES):
        assert [line.split()[0] for line in lines if line.endswith(f"class {number}  {name}")] == [
            key_of_class(number)
        ]
    assert any(line.split()[0] == "space" for line in lines)


def test_keys_and_classes_are_inverse():
    for number in range(22):
        assert class_of_key(key_of_class(number).lower()) == number
    assert key_of_class(22) is None  # past F12


def test_no_window_with_agg():
    before = matplotlib.get_backend()
    matplotlib.use("agg")
    try:
        assert not window_available()
        make_viewer().show()  # returns at once
    finally:
        matplotlib.use(before)


def test_no_window_without_a_display():
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux shows a missing display in the environment")
    code = "from utils.plots.viewer import window_available; print(window_available())"
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")
    }
    for backend in ({}, {"MPLBACKEND": "TkAgg"}):
        result = subprocess.run(
            [sys.executable, "-c", code],
            env=environment | backend,
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=True,
        )
        assert result.stdout.strip() == "False"


def test_the_window_handles_only_our_keys_and_leaves_no_figure(monkeypatch):
    """A window of the Agg backend of pyplot, which has managers but no screen."""
    import matplotlib.pyplot as plt

    monkeypatch.setattr(viewer_module, "window_available", lambda: True)
    monkeypatch.setattr(plt, "show", lambda block: while_open())
    before = matplotlib.get_backend()
    plt.switch_backend("agg")
    figures = plt.get_fignums()
    viewer = make_viewer()
    seen = []

    def while_open():
        press(viewer, "f1")
        seen.append(set(LABELS[viewer.shown]))
        assert "keys 0-9, F1-F2" in all_text(viewer)
        # The handler that matplotlib gives a pyplot window would act on "f", "s", "g" ...
        default = viewer.figure.canvas.manager.key_press_handler_id
        assert default not in viewer.figure.canvas.callbacks.callbacks["key_press_event"]
        assert len(plt.get_fignums()) == len(figures) + 1
        press(viewer, "q")
        assert plt.get_fignums() == figures

    try:
        viewer.show()
    finally:
        plt.switch_backend(before)
    assert seen == [{10}]
    assert plt.get_fignums() == figures
    assert set(LABELS[viewer.shown]) == {10}  # still there to be saved
    assert "keys" not in all_text(viewer)

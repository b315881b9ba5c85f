"""Shared parts of pictures: wrapped names, distinct colours, files."""

import io

import numpy as np
import pytest
from PIL import Image

from utils.plots import figures


def test_true_color_keeps_every_color():
    figure = figures.new_figure(2, 1, "true_color")
    with (
        Image.open(io.BytesIO(figures.png_bytes(figure, dpi=50))) as few,
        Image.open(io.BytesIO(figures.png_bytes(figure, dpi=50, true_color=True))) as all_colors,
    ):
        assert (few.mode, all_colors.mode) == ("P", "RGB")


@pytest.mark.parametrize(
    "text, characters, lines, wrapped",
    [
        ("platelet", 10, 1, "platelet"),
        ("basal cell carcinoma", 10, 2, "basal cell\ncarcinoma"),
        ("granulocytes(myelocytes)", 12, 2, "granulocytes\n(myelocytes)"),
        ("basal cell carcinoma", 10, 1, "basal cel…"),
        ("7 adenocarcinoma", 10, 1, "7 adenoca…"),
        ("a_long_model_id", 7, 3, "a_long_\nmodel_\nid"),
        ("abcdefgh", 3, 9, "abc\ndef\ngh"),
        ("two\nlines", 10, 2, "two\nlines"),
        ("", 5, 1, ""),
    ],
)
def test_wrap_label(text, characters, lines, wrapped):
    assert figures.wrap_label(text, characters, lines) == wrapped
    assert all(len(line) <= characters for line in wrapped.split("\n"))


def lightness(color):
    """CIE L* of a hex colour, 0 (black) to 100 (white)."""
    channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = np.dot(linear, [0.2126, 0.7152, 0.0722])
    return 116 * luminance ** (1 / 3) - 16


def test_right_and_wrong_differ_in_lightness_too():
    assert lightness(figures.INCORRECT) - lightness(figures.CORRECT) > 10
    assert lightness(figures.TEST) - lightness(figures.RETAIN) > 10

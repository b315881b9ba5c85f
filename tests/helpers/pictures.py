"""Checks of any picture: a small file, complete and legible."""

import io
import warnings

from PIL import Image

from utils.plots.figures import SCREEN_DPI, png_bytes


def check_png(name, figure, largest=150_000):
    """Check that the figure is drawn without a warning, as a PNG file of its size."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing glyph, a layout that does not fit
        content = png_bytes(figure)
    assert len(content) < largest, name
    with Image.open(io.BytesIO(content)) as picture:
        pixels = SCREEN_DPI * figure.get_size_inches()
        assert picture.format == "PNG" and abs(pixels - picture.size).max() <= 1, name


def check_labels(name, figure):
    """Check that labels are inside the figure and do not overlap, nor legends and axes."""
    figure.draw_without_rendering()
    for axes in figure.axes:
        labels = [label for label in axes.get_yticklabels() if label.get_visible()]
        boxes = [label.get_window_extent() for label in [*labels, *axes.texts]]
        for index, box in enumerate(boxes):
            overlapping = [other for other in boxes[:index] if box.overlaps(other)]
            assert not overlapping, (name, index)
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes), name
    # half a pixel, for the rounding of the layout
    panels = [axes.get_tightbbox().padded(-0.5) for axes in figure.axes]
    assert not any(
        legend.get_window_extent().overlaps(panel) for legend in figure.legends for panel in panels
    ), name
    assert not any(
        panel.overlaps(other) for index, panel in enumerate(panels) for other in panels[:index]
    ), name
    legends = [text for legend in figure.legends for text in legend.get_texts()]
    for text in [*figure.texts, *legends]:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1, (name, text.get_text())
        assert box.y0 >= 0 and box.y1 <= figure.bbox.y1, (name, text.get_text())


def legend_texts(figure):
    """Return the texts of all legends of the figure."""
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]

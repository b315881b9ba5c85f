"""Shared parts of all pictures: colours, font sizes, titles, legends, the PNG file.

Figures are made without pyplot, so they need no display, are never shown by accident and are freed
like any other object. `png_bytes` turns one into the content of a file.

Colours are Okabe and Ito's, which stay apart for the common forms of colour blindness
(https://jfly.uni-koeln.de/color/).
"""

import io
import re
from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from utils.plots.fonts import drawable, use_fallback_fonts

BLUE, SKY_BLUE, ORANGE, REDDISH_PURPLE = "#0072B2", "#56B4E9", "#E69F00", "#CC79A7"
BLUISH_GREEN, YELLOW = "#009E73", "#F0E442"
GREY = "#8C8C8C"
LIGHT_GREY = "#B0B0B0"

FORGET = ORANGE
RETAIN = BLUE
TEST = SKY_BLUE
CORRECT = "#00614A"  # bluish green, darkened: red and green of one lightness look alike to many
INCORRECT = "#D03A00"  # vermillion, a little darker: thin letters of it look orange
BEFORE = GREY  # the base model, next to the unlearned one

SCREEN_DPI = 150
LABEL_POINTS = 9
PANEL_POINTS = 10  # the title of one panel of several
SMALL_POINTS = 7.5
TITLE_LINES = 3  # an unlearned model's id takes two
WIDTH_INCHES = 8


def new_figure(width: float, height: float, title: str) -> Figure:
    """Return a figure with a title, an Agg canvas and constrained layout; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    title_characters = int(width * 10)  # ten to the inch in 12 points
    figure.suptitle(wrap_label(title, title_characters, TITLE_LINES), fontsize=12, parse_math=False)
    return figure


def style_axes(axes: Axes, grid: str) -> None:
    """Keep only the left and bottom spine, and draw a light grid behind the data.

    grid: "x", "y" or "both".
    """
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#E5E5E5", lw=0.8)
    axes.set_axisbelow(True)


def legend_below(
    figure: Figure, handles: Sequence[Artist], labels: Sequence[str], columns: int | None = None
) -> None:
    """Add one legend for the whole figure below it, by default in one row."""
    legend = figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns or len(labels),
        frameon=False,
        fontsize=LABEL_POINTS,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def numbered_names(class_names: Sequence[str]) -> list[str]:
    """Return the class names preceded by their numbers, which are what the commands take."""
    return [
        name if name == str(number) else f"{number} {name}"
        for number, name in enumerate(class_names)
    ]


def wrap_label(text: str, characters: int, max_lines: int) -> str:
    """Wrap `text` into at most `max_lines` lines of `characters`, and end a cut one with "…".

    Lines break after spaces, underscores, slashes and hyphens and before an opening bracket; a
    longer run is broken where the line ends. A line break in `text` is kept. Characters that no
    font has are transliterated (utils.plots.fonts).
    """
    lines = []
    for paragraph in drawable(str(text)).split("\n"):
        line = ""
        for piece in re.split(r"(?<=[ _/-])|(?=\()", paragraph):
            if line and len((line + piece).rstrip()) > characters:
                lines.append(line)
                line = ""
            line += piece
            while len(line.rstrip()) > characters:
                lines.append(line[:characters])
                line = line[characters:]
        lines.append(line + " ")
    if len(lines) > max_lines:
        last, rest = lines[max_lines - 1], "".join(lines[max_lines:])
        if len(last) < characters / 2:  # a number alone, with a long word after it
            last += rest
        lines[max_lines - 1 :] = [last[: characters - 1].rstrip(" ,(") + "…"]
    return "\n".join(line.rstrip() for line in lines)


def png_bytes(figure: Figure, dpi: int = SCREEN_DPI, true_color: bool = False) -> bytes:
    """Return the figure as the bytes of a PNG file.

    true_color: keep every colour, for a figure that contains photographs. A chart needs few: a
        palette of 256 makes the file a third as large.
    """
    use_fallback_fonts(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    picture = Image.open(buffer).convert("RGB")
    if not true_color:
        picture = picture.quantize(256)
    smaller = io.BytesIO()
    picture.save(smaller, format="PNG", optimize=True, dpi=(dpi, dpi))
    return smaller.getvalue()

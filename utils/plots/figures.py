"""What all pictures have in common: colours, sizes of letters, titles, legends, the PNG file.

The figures are made without pyplot, so they need no display, are never shown by accident and are
freed like any other object. `png_bytes` turns one into the content of a file.

Colours are Okabe and Ito's, which stay apart for the common forms of colour blindness
(https://jfly.uni-koeln.de/color/).
"""

import io
import re

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

BLUE, SKY_BLUE, ORANGE, REDDISH_PURPLE = "#0072B2", "#56B4E9", "#E69F00", "#CC79A7"
BLUISH_GREEN, YELLOW = "#009E73", "#F0E442"
GREY = "#8C8C8C"
FAINT = "#B0B0B0"

FORGET = ORANGE
RETAIN = BLUE
TEST = SKY_BLUE
CORRECT = "#00614A"  # bluish green, darkened: red and green of one lightness look alike to many
INCORRECT = "#D03A00"  # vermillion, a little darker: thin letters of it look orange
BEFORE = GREY  # the base model, beside the unlearned one

SCREEN_DPI = 150
LABEL_POINTS = 9
PANEL_POINTS = 10  # the title of one panel of several
SMALL_POINTS = 7.5
TITLE_LINES = 3  # an unlearned model's id takes two
WIDTH_INCHES = 8


def new_figure(width, height, title):
    """A figure with a title, its own Agg canvas and constrained layout; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    title_characters = int(width * 10)  # ten to the inch in 12 points
    figure.suptitle(wrap_label(title, title_characters, TITLE_LINES), fontsize=12, parse_math=False)
    return figure


def tidy(axes, grid):
    """Leave the axes only the two spines that bear numbers, and a faint grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#E5E5E5", lw=0.8)
    axes.set_axisbelow(True)


def legend_below(figure, handles, labels, columns=None):
    """One legend for the whole figure, under it; by default all in one row."""
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


def numbered(class_names):
    """Class names led by their numbers, which are what the commands take."""
    return [
        name if name == str(number) else f"{number} {name}"
        for number, name in enumerate(class_names)
    ]


def wrap_label(text, characters, max_lines):
    """`text` over at most `max_lines` lines of at most `characters`, cut with an ellipsis.

    Lines break after spaces, underscores, slashes and hyphens and before an opening bracket; a
    longer run is broken where the line ends. A line break in `text` stays one.
    """
    lines = []
    for paragraph in str(text).split("\n"):
        line = ""
        for piece in re.split(r"(?<=[ _/-])|(?=\()", paragraph):
            if line and len((line + piece).rstrip()) > characters:
                lines.append(line.rstrip())
                line = ""
            line += piece
            while len(line.rstrip()) > characters:
                lines.append(line[:characters])
                line = line[characters:]
        lines.append(line.rstrip())
    if len(lines) > max_lines:
        lines = lines[:max_lines]
        lines[-1] = lines[-1][: characters - 1].rstrip(" ,(") + "…"
    return "\n".join(lines)


def png_bytes(figure, dpi=SCREEN_DPI, true_color=False):
    """The figure as the bytes of a PNG file.

    A chart needs few colours: a palette of 256 makes it a third as large. `true_color` keeps
    every colour, for a figure that holds true_color.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    picture = Image.open(buffer).convert("RGB")
    if not true_color:
        picture = picture.quantize(256)
    smaller = io.BytesIO()
    picture.save(smaller, format="PNG", optimize=True, dpi=(dpi, dpi))
    return smaller.getvalue()

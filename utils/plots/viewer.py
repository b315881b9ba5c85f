"""The interactive sample viewer: a grid of images in which a number key shows one class.

Keys 0 to 9 show classes 0 to 9, F1 class 10, F2 class 11 and so on; space shows another random mix;
q or escape closes the window. The grid is the same with and without a window, so that it can be
saved where there is no display.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from utils.io.files import write_atomically
from utils.plots.figures import png_bytes, wrap_label
from utils.plots.fonts import use_fallback_fonts
from utils.runtime.processes import is_rank_zero

DIGIT_KEYS = 10
FUNCTION_KEYS = 12
MAX_LISTED_CLASSES = 50  # in the terminal
CLOSE_KEYS = ("q", "escape", "ctrl+w", "cmd+w")

CELL_INCHES = 1.25  # the side of an image in a grid that fits MAX_GRID_INCHES
MAX_GRID_INCHES = (11.0, 6.6)  # width and height: with the heading it fits a laptop's screen
COLUMN_GAP_INCHES = 0.3
TITLE_INCHES = 0.38  # two lines of TITLE_POINTS
TITLE_POINTS = 8.5
MIN_TITLE_POINTS = 3
TITLE_LINES = 2
TITLE_PAD_POINTS = 4
HEADING_INCHES = 0.62  # two lines of HEADING_POINTS
HEADING_POINTS = 11
HEADING_NAME_CHARACTERS = 70  # a longer class name is cut, so that the count after it stays visible
FOOTER_INCHES = 0.35
FOOTER_POINTS = 8.5
MARGIN_INCHES = 0.1  # above the heading and below the footer
GLYPH_EM = 0.6  # mean width of a character, in font sizes
COLUMN_FRACTION = 0.96  # of a column's width that a title may fill
TITLE_COLOR = "black"
NO_BREAK_SPACE = "\u00a0"


class SampleViewer:
    """A grid of rows x cols samples with number keys.

    images: torch tensor (N, C, H, W) uint8, C 1 (grey) or 3 (RGB), on any device.
    members: (N, K) bool tensor or array; members[n, k] is whether image n belongs to class k. An
        image can belong to several classes or to none.
    titles: N short strings, one above each image; a line break in them is kept.
    class_names: K strings.
    heading: the name of the set of images, such as "BloodMNIST test".
    seed: of the random samples; the same seed and keys show the same images.
    title_colors: N colours for the titles.

    `shown` holds the indices of the visible images. Raises ValueError if the shapes do not match.
    """

    def __init__(
        self,
        images: torch.Tensor,
        members: torch.Tensor | np.ndarray,
        titles: Sequence[str],
        *,
        class_names: Sequence[str],
        rows: int,
        cols: int,
        seed: int,
        heading: str,
        title_colors: Sequence[str] | None = None,
    ):
        members = members.cpu().numpy() if hasattr(members, "cpu") else np.asarray(members)
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"images must be (N, 1 or 3, H, W), not {tuple(images.shape)}")
        if members.shape != (len(images), len(class_names)):
            raise ValueError(
                f"members must be {(len(images), len(class_names))}, one row per image and one "
                f"column per class, not {members.shape}"
            )
        if any(len(each) != len(images) for each in (titles, title_colors) if each is not None):
            raise ValueError(f"{len(images)} images need {len(images)} titles and title colours")
        self._images = images
        self._members = members.astype(bool)
        self._titles = titles
        self._title_colors = title_colors
        self._class_names = class_names
        self._rows, self._cols = rows, cols
        self._source = heading
        self._random = np.random.default_rng(seed)
        self._hint = ""
        self._footer_text = ""
        self._heading = heading
        self.shown = np.empty(0, int)
        self._use_figure(_figure_off_screen(self._figure_size()))
        self.show_mix()

    def show_class(self, number: int) -> None:
        """Show random images of class `number`, sampled without replacement."""
        pool = np.flatnonzero(self._members[:, number])
        name = wrap_label(self._class_names[number], HEADING_NAME_CHARACTERS, 1)
        label = f"class {number}" if name == str(number) else f"class {number} {name}"
        self._show_random(pool, f"{self._source}: {label} ({_count(len(pool))})")

    def show_mix(self) -> None:
        """Show random images of all classes, sampled without replacement."""
        total = len(self._images)
        self._show_random(total, f"{self._source}: a random mix of {_count(total)}")

    def press(self, key: str) -> None:
        """Handle a key, given by matplotlib's name of it ("3", "f1", " ").

        A digit or function key without a class shows a hint; other keys do nothing.
        """
        if key in (" ", "space"):
            self.show_mix()
            return
        number = class_of_key(key)
        if number is None:
            return
        if number < len(self._class_names):
            self.show_class(number)
        else:
            self._hint = f"no class {number}"
            self._draw()

    def save(self, path: Path) -> None:
        """Write the visible grid as a PNG file."""
        write_atomically(path, png_bytes(self.figure, true_color=True))

    def show(self) -> None:
        """Open the window and wait until it is closed; do nothing where no window can open."""
        if not window_available():
            return
        import matplotlib.pyplot as plt  # for the window only: pyplot keeps a registry of figures

        # The toolbar would bind keys to its tools for panning and saving.
        with matplotlib.rc_context({"toolbar": "None"}):
            window = plt.figure(figsize=self._figure_size())
        manager = window.canvas.manager
        window.canvas.mpl_disconnect(manager.key_press_handler_id)  # else "f", "s" ... act too
        manager.set_window_title(self._source)
        self._footer_text = _footer(len(self._class_names))
        self._use_figure(window)
        try:
            plt.show(block=True)
        finally:
            plt.close(window)
            self._hint = self._footer_text = ""
            self._use_figure(_figure_off_screen(self._figure_size()))

    def _show_random(self, pool, heading):
        """Show random images of `pool`: an array of indices, or the number N for 0 .. N-1."""
        available = pool if isinstance(pool, int) else len(pool)
        size = min(self._rows * self._cols, available)
        self.shown = self._random.choice(pool, size, replace=False) if size else np.empty(0, int)
        self._heading = heading
        self._hint = ""
        self._draw()

    def _figure_size(self):
        """Return width and height in inches; many cells are shrunk to fit."""
        wanted = np.array(
            [
                self._cols * (CELL_INCHES + COLUMN_GAP_INCHES),
                self._rows * (CELL_INCHES + TITLE_INCHES),
            ]
        )
        width, height = np.minimum(wanted, MAX_GRID_INCHES)
        return width, height + HEADING_INCHES + FOOTER_INCHES

    def _use_figure(self, figure):
        """Fill `figure` with empty cells, draw the visible images and connect its events."""
        self.figure = figure
        channels, *size = self._images.shape[1:]
        blank = np.zeros(size if channels == 1 else (*size, channels), np.uint8)
        self._cells = []
        for _ in range(self._rows * self._cols):
            axes = figure.add_axes((0, 0, 1, 1))
            axes.set_axis_off()
            axes.set_title("", pad=TITLE_PAD_POINTS, parse_math=False)
            picture = axes.imshow(blank, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            self._cells.append((axes, picture))
        self._suptitle = figure.suptitle(
            "", va="top", fontsize=HEADING_POINTS, linespacing=1.1, parse_math=False
        )
        self._footer = figure.text(
            0.5, 0, "", ha="center", va="bottom", fontsize=FOOTER_POINTS, color="#555555"
        )
        figure.canvas.mpl_connect("key_press_event", self._on_key)
        figure.canvas.mpl_connect("resize_event", self._on_resize)
        self._on_resize()

    def _on_resize(self, event=None):
        """Divide the figure's current size between the cells; text keeps its size."""
        width, height = self.figure.get_size_inches()
        grid_height = max(height - HEADING_INCHES - FOOTER_INCHES, 0.5 * height)
        column, row = width / self._cols, grid_height / self._rows
        image_width = max(column - COLUMN_GAP_INCHES, 0.5 * column)
        image_height = max(row - TITLE_INCHES, 0.5 * row)
        for cell, (axes, _) in enumerate(self._cells):
            left = (cell % self._cols) * column + (column - image_width) / 2
            bottom = FOOTER_INCHES + (self._rows - 1 - cell // self._cols) * row
            axes.set_position(
                (left / width, bottom / height, image_width / width, image_height / height)
            )
        self._suptitle.set_y(1 - MARGIN_INCHES / height)
        self._footer.set_y(MARGIN_INCHES / height)
        self._draw()

    def _draw(self):
        """Draw the visible images, their titles and the heading."""
        width = self.figure.get_figwidth()
        heading = wrap_label(self._heading, _characters(width, HEADING_POINTS), 2)
        self._suptitle.set_text(heading.replace(NO_BREAK_SPACE, " "))
        self._footer.set_text("     ".join(filter(None, (self._hint, self._footer_text))))
        characters = _characters(width / self._cols, TITLE_POINTS)
        # one transfer for the whole grid: the images may be on a GPU
        pictures = self._images[self.shown.tolist()].permute(0, 2, 3, 1).cpu().numpy()
        for cell, (axes, picture) in enumerate(self._cells):
            filled = cell < len(self.shown)
            picture.set_visible(filled)
            axes.title.set_text("")
            if filled:
                index = self.shown[cell]
                picture.set_data(
                    pictures[cell].squeeze(-1) if pictures.shape[-1] == 1 else pictures[cell]
                )
                axes.title.set_text(wrap_label(self._titles[index], characters, TITLE_LINES))
                axes.title.set_color(
                    self._title_colors[index] if self._title_colors else TITLE_COLOR
                )
        use_fallback_fonts(self.figure)
        for axes, _ in self._cells[: len(self.shown)]:
            self._fit_title(axes.title, width)
        if self.figure.canvas.manager is not None:  # without a window, saving renders it
            self.figure.canvas.draw_idle()

    def _fit_title(self, title, width):
        """Shrink a title of wide letters to its column, given the figure's width in inches."""
        limit = COLUMN_FRACTION * width * self.figure.dpi / self._cols
        points = TITLE_POINTS
        title.set_fontsize(points)
        # step by step: glyphs snap to whole pixels, so widths are not proportional to the size
        while title.get_window_extent().width > limit and points > MIN_TITLE_POINTS:
            points -= 0.5
            title.set_fontsize(points)

    def _on_key(self, event):
        if event.key in CLOSE_KEYS and self.figure.canvas.manager is not None:
            import matplotlib.pyplot as plt

            plt.close(self.figure)
        elif event.key is not None:
            self.press(event.key)


def class_of_key(key: str) -> int | None:
    """Return the class number of a key (matplotlib's name of it), or None for other keys."""
    digit = re.fullmatch(r"(?:kp_)?([0-9])", key)
    if digit:
        return int(digit[1])
    function = re.fullmatch(r"f([1-9][0-9]?)", key)
    return DIGIT_KEYS - 1 + int(function[1]) if function else None


def key_of_class(number: int) -> str | None:
    """Return the label of the key that shows class `number`, or None if there is no such key."""
    if number < DIGIT_KEYS:
        return str(number)
    function = number - DIGIT_KEYS + 1
    return f"F{function}" if function <= FUNCTION_KEYS else None


def key_help(class_names: Sequence[str]) -> str:
    """Return the keys as text for the terminal, one line per class.

    Of more classes than MAX_LISTED_CLASSES only those with a key are listed.
    """
    listed = len(class_names)
    if listed > MAX_LISTED_CLASSES:
        listed = DIGIT_KEYS + FUNCTION_KEYS
    lines = [
        f"  {key_of_class(number) or '-':<6} class {number}"
        + ("" if name == str(number) else f"  {name}")
        for number, name in enumerate(class_names[:listed])
    ]
    if listed < len(class_names):
        lines.append(f"  -      classes {listed} to {len(class_names) - 1}")
    return "\n".join(
        ["Keys in the window:", *lines, "  space  another random mix", "  q      close the window"]
    )


def open_window(viewer: SampleViewer, class_names: Sequence[str]) -> None:
    """Print the keys and open the window; without a display, print that instead."""
    if not is_rank_zero():
        return
    if not window_available():
        print("no window can be opened here: open the saved pictures instead")
        return
    print("\n" + key_help(class_names), flush=True)
    viewer.show()


def window_available() -> bool:
    """Return whether matplotlib can open a window: a display, and a backend that draws to it.

    The user's choice of backend (MPLBACKEND, matplotlibrc) is used; without one, matplotlib tries
    those that are installed.
    """
    import matplotlib.pyplot as plt
    from matplotlib.backends import backend_registry

    try:
        backend = matplotlib.get_backend()
        plt.switch_backend(backend)  # fails for a backend without its library or its display
        canvas = backend_registry.load_backend_module(backend).FigureCanvas
    except (ImportError, RuntimeError):
        return False
    return canvas.required_interactive_framework is not None


def _figure_off_screen(size):
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    return figure


def _characters(inches, points):
    """Return how many characters of a font of that size fit a width."""
    return max(4, math.floor(inches * 72 / (points * GLYPH_EM)))


def _count(images):
    """Return e.g. "579 images", which stays on one line."""
    number = f"{images:,}" if images else "no"
    return f"{number}{NO_BREAK_SPACE}{'image' if images == 1 else 'images'}"


def _footer(class_count):
    last = key_of_class(min(class_count, DIGIT_KEYS + FUNCTION_KEYS) - 1)
    digits = f"0-{min(class_count, DIGIT_KEYS) - 1}" if class_count > 1 else "0"
    functions = f", F1-{last}" if class_count > DIGIT_KEYS else ""
    return f"keys {digits}{functions}: one class     space: another random mix     q: close"

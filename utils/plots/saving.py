"""Saving pictures."""

from pathlib import Path

from matplotlib.figure import Figure

from utils.io.files import ensure_folder, write_atomically
from utils.plots.figures import png_bytes


def save_picture(figure: Figure, path: Path, true_color: bool = False) -> None:
    """Write the figure to `path` as a PNG file and print the path.

    Unfinished pictures of killed runs in the same folder are removed. true_color: keep every
    colour, for a figure that contains photographs.
    """
    write_atomically(path, png_bytes(figure, true_color=true_color))
    ensure_folder(path.parent)
    print(f"picture: {path}")

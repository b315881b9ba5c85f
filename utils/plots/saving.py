"""Pictures and tables as files, whole or not at all."""

from utils.io.files import write_atomically
from utils.plots.figures import png_bytes


def save_picture(figure, path, true_color=False):
    """Write a matplotlib Figure as PNG and say where. true_color: keep every colour."""
    write_atomically(path, png_bytes(figure, true_color=true_color))
    print(f"picture: {path}")

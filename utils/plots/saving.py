"""Pictures and tables as files, whole or not at all."""

from utils.io.files import write_atomically
from utils.plots.figures import png_bytes


def save_picture(figure, path, photographs=False):
    """Write a matplotlib Figure as PNG and say where. photographs: keep every colour."""
    write_atomically(path, png_bytes(figure, true_color=photographs))
    print(f"picture: {path}")

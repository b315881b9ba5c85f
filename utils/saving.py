"""Pictures and tables as files, whole or not at all."""

from utils.figures import png_bytes
from utils.files import write_atomically


def save_picture(figure, path, photographs=False):
    """Write a matplotlib Figure as PNG and say where. photographs: keep every colour."""
    write_atomically(path, png_bytes(figure, true_color=photographs))
    print(f"picture: {path}")

"""Show a data set: its sizes, its classes, the images of each class, and a window of samples."""

if __name__ == "__main__":  # before the other imports: Ctrl-C during them prints one line
    from utils.runtime import startup

    startup.end_on_ctrl_c()

from arg_parser import (
    data_flags,
    input_size_flag,
    load_dataset_arguments,
    make_parser,
    window_flags,
)
from utils.io.files import PICTURE_FOLDER
from utils.runtime.errors import run_script
from utils.runtime.startup import import_libraries
from utils.text import format_table

GRID = (4, 4)  # rows and columns of the window


def main(argv: list[str] | None = None) -> None:
    """Print and draw the data set that the flags name."""
    parser = make_parser(__doc__, data_flags, window_flags)
    input_size_flag(parser)
    args = parser.parse_args(argv)
    import_libraries()
    from utils.data.datasets import class_membership
    from utils.data.loading import load_dataset

    dataset = load_dataset(**load_dataset_arguments(args))
    sizes = {split: len(part) for split, part in dataset.splits.items()}
    print(f"{dataset.name}: {dataset.task}, {dataset.num_classes} classes")
    print(f"images: {dataset.input_size}x{dataset.input_size}, {dataset.channels} channel(s)")
    print(", ".join(f"{split} {size:,}" for split, size in sizes.items()), end=", ")
    print(f"total {sum(sizes.values()):,}\n")

    members = {
        s: class_membership(p.labels, dataset.num_classes) for s, p in dataset.splits.items()
    }
    counts = {split: which.sum(0).tolist() for split, which in members.items()}
    rows = [
        (number, name, *(counts[split][number] for split in counts))
        for number, name in enumerate(dataset.class_names)
    ]
    print(format_table(["class", "name", *counts], rows))
    if dataset.is_multi_label:
        unlabelled = [int((~which.any(1)).sum()) for which in members.values()]
        parts = map("{} {:,}".format, counts, unlabelled)
        print("images without any finding: " + ", ".join(parts))
    _draw(args, dataset, counts, members["train"])


def _draw(args, dataset, counts, train_members):
    """Save the pictures and open the window."""
    from utils.plots.bars import class_counts
    from utils.plots.saving import save_picture
    from utils.plots.viewer import SampleViewer, open_window

    folder = PICTURE_FOLDER / dataset.name
    picture = class_counts(counts, dataset.class_names, f"{dataset.name}: images per class")
    save_picture(picture, folder / "classes.png")
    viewer = SampleViewer(
        dataset.train.images,
        train_members,
        _titles(dataset, train_members),
        class_names=dataset.class_names,
        rows=GRID[0],
        cols=GRID[1],
        seed=args.seed,
        heading=f"{dataset.name} train",
    )
    save_picture(viewer.figure, folder / "samples.png", true_color=True)
    if not args.no_window:
        open_window(viewer, dataset.class_names)


def _titles(dataset, members):
    """Return the class, or the findings, of each image."""
    if not dataset.is_multi_label:
        return [dataset.describe_class(number) for number in dataset.train.labels.tolist()]
    names = dataset.class_names
    findings = [which.nonzero()[:, 0].tolist() for which in members]
    return [", ".join(names[n] for n in numbers) or "no finding" for numbers in findings]


if __name__ == "__main__":
    run_script(main)

"""Test a model: the accuracy of each class, and a window of samples with its predictions."""

if __name__ == "__main__":  # before the other imports: Ctrl-C during them prints one line
    from utils.runtime import startup

    startup.end_on_ctrl_c()

from arg_parser import (
    data_flags,
    device_flags,
    make_parser,
    open_model_arguments,
    prediction_flags,
    trained_model_flags,
    window_flags,
)
from utils.io.files import PICTURE_FOLDER
from utils.runtime.devices import pick_device
from utils.runtime.errors import run_script
from utils.runtime.startup import import_libraries
from utils.text import format_table, percent

GRID = (4, 5)  # rows and columns of the window


def main(argv: list[str] | None = None) -> None:
    """Print the accuracy of each class on the test images, and draw the predictions."""
    groups = (trained_model_flags, data_flags, prediction_flags, device_flags, window_flags)
    args = make_parser(__doc__, *groups).parse_args(argv)
    import_libraries()
    from models.loading import load_model_and_data
    from utils.train.prediction import predict

    model, record, dataset = load_model_and_data(
        device=pick_device(args.device, args.threads), **open_model_arguments(args)
    )
    logits = predict(model, dataset.test, args.batch_size)
    print(f"{args.model_id} on {len(dataset.test):,} test images of {dataset.name}")
    print(f"{dataset.describe_placement(args.batch_size)}\n")
    _print_metrics(dataset, logits)
    _draw_matrix(args, record, dataset, logits)
    _draw_samples(args, dataset, logits)


def _print_metrics(dataset, logits):
    """Print the accuracy of each class and of all, and the AUC."""
    from utils.train.metrics import medmnist_scores, per_class_metrics

    labels = dataset.test.labels
    _print_classes(per_class_metrics(logits, labels), dataset.class_names)
    auc, accuracy = medmnist_scores(logits, labels, dataset.task)
    print(f"\noverall accuracy: {percent(accuracy)}")
    print(f"AUC: {'undefined, a class has no test image' if auc is None else f'{auc:.5f}'}")


def _draw_matrix(args, record, dataset, logits):
    """Save the confusion matrix, or the errors of each finding."""
    from unlearn.request.request import ForgetRequest
    from utils.plots.bars import finding_errors
    from utils.plots.confusion import confusion_matrix
    from utils.plots.saving import save_picture
    from utils.train.metrics import confusion_counts, finding_counts

    folder = PICTURE_FOLDER / args.model_id
    labels, names = dataset.test.labels, dataset.class_names
    title = f"{args.model_id}\non {dataset.name} test"
    if dataset.is_multi_label:
        picture = finding_errors(finding_counts(logits, labels), names, title)
        save_picture(picture, folder / "findings.png")
        return
    request = record.get("forget_request")
    forgotten = ForgetRequest.from_record(request).classes if request else ()
    picture = confusion_matrix(confusion_counts(logits, labels), names, title, forgotten)
    save_picture(picture, folder / "confusion_matrix.png")


def _draw_samples(args, dataset, logits):
    """Save a picture of samples with their predictions, and open the window."""
    from utils.data.datasets import class_membership
    from utils.plots.saving import save_picture
    from utils.plots.viewer import SampleViewer, open_window

    labels = dataset.test.labels
    titles, colors = _titles_and_colors(logits, labels)
    viewer = SampleViewer(
        dataset.test.images,
        class_membership(labels, dataset.num_classes),
        titles,
        class_names=dataset.class_names,
        rows=GRID[0],
        cols=GRID[1],
        seed=args.seed,
        heading=f"{dataset.name} test",
        title_colors=colors,
    )
    path = PICTURE_FOLDER / args.model_id / "predictions.png"
    save_picture(viewer.figure, path, true_color=True)
    if not args.no_window:
        open_window(viewer, dataset.class_names)


def _print_classes(rows, names):
    multi_label = "auc" in rows[0]
    headers = ["class", "name", "test samples", "found" if multi_label else "accuracy"]
    cells = [
        [number, name, row["images"], percent(row["correct"])]
        for number, (name, row) in enumerate(zip(names, rows, strict=True))
    ]
    if multi_label:
        headers.append("AUC")
        for line, row in zip(cells, rows, strict=True):
            line.append(None if row["auc"] is None else f"{row['auc']:.5f}")
    print(format_table(headers, cells))


def _titles_and_colors(logits, labels):
    """Return a title `GT: 3 / Pred: 3` and its colour for each image."""
    from utils.plots.figures import CORRECT, INCORRECT

    if labels.ndim == 1:
        truths, predictions = labels.tolist(), logits.argmax(1).tolist()
    else:
        truths, predictions = _numbers(labels), _numbers(logits > 0)
    pairs = list(zip(truths, predictions, strict=True))
    return [f"GT: {t} / Pred: {p}" for t, p in pairs], [
        CORRECT if t == p else INCORRECT for t, p in pairs
    ]


def _numbers(findings):
    return [",".join(map(str, row.nonzero()[:, 0].tolist())) or "none" for row in findings.cpu()]


if __name__ == "__main__":
    run_script(main)

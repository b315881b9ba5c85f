"""How well a model recognises each class, and a window of samples with its predictions."""

if __name__ == "__main__":  # before torch is imported, which takes seconds
    from utils.runtime import startup

    startup.end_on_ctrl_c()

from arg_parser import (
    data_flags,
    device_flags,
    make_parser,
    model_and_data,
    prediction_flags,
    trained_model_flags,
    window_flags,
)
from models.loading import load_model_and_data
from unlearn.request.request import ForgetRequest
from utils.data.datasets import class_membership
from utils.io.files import PICTURE_FOLDER
from utils.plots.bars import finding_errors
from utils.plots.confusion import confusion_matrix
from utils.plots.figures import CORRECT, INCORRECT
from utils.plots.saving import save_picture
from utils.plots.viewer import SampleViewer, open_window
from utils.runtime.devices import pick_device
from utils.runtime.errors import run_script
from utils.text import format_table, percent
from utils.train.metrics import confusion_counts, finding_counts, medmnist_scores, per_class_metrics
from utils.train.prediction import predict

GRID = (4, 5)


def main(argv=None):
    groups = (trained_model_flags, data_flags, prediction_flags, device_flags, window_flags)
    args = make_parser(__doc__, *groups).parse_args(argv)
    model, record, dataset = load_model_and_data(
        device=pick_device(args.device, args.threads), **model_and_data(args)
    )
    labels, names = dataset.test.labels, dataset.class_names
    logits = predict(model, dataset.test, args.batch_size)

    print(f"{args.model_id} on {len(labels):,} test images of {dataset.name}")
    print(f"{dataset.describe_placement(args.batch_size)}\n")
    _print_classes(per_class_metrics(logits, labels), names)
    auc, accuracy = medmnist_scores(logits, labels, dataset.task)
    print(f"\noverall accuracy: {percent(accuracy)}")
    print(f"AUC: {'undefined, a class has no test image' if auc is None else f'{auc:.5f}'}")

    folder = PICTURE_FOLDER / args.model_id
    title = f"{args.model_id}\non {dataset.name} test"
    if dataset.is_multi_label:
        picture = finding_errors(finding_counts(logits, labels), names, title)
        save_picture(picture, folder / "findings.png")
    else:
        request = record.get("forget_request")
        forgotten = ForgetRequest.from_record(request).classes if request else ()
        picture = confusion_matrix(confusion_counts(logits, labels), names, title, forgotten)
        save_picture(picture, folder / "confusion_matrix.png")
    titles, colors = _ground_truth_and_prediction(logits, labels)
    viewer = SampleViewer(
        dataset.test.images,
        class_membership(labels, dataset.num_classes),
        titles,
        class_names=names,
        rows=GRID[0],
        cols=GRID[1],
        seed=args.seed,
        heading=f"{dataset.name} test",
        title_colors=colors,
    )
    save_picture(viewer.figure, folder / "predictions.png", true_color=True)
    if not args.no_window:
        open_window(viewer, names)


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


def _ground_truth_and_prediction(logits, labels):
    """Titles `GT: 3 / Pred: 3` and their colours, one for each image."""
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

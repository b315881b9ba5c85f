"""The whole walkthrough in one command: train, test, make masks, unlearn, test and compare.

It runs the scripts that the README walks through, one after the other, and prints each command.
"""

import re
import shlex
import time

import examine_dataset
import generate_mask
import main_test
import main_test_unlearn
import main_train
import main_unlearn
from arg_parser import (
    class_flag,
    data_flags,
    data_source,
    device_flags,
    make_parser,
    mask_flag,
    training_flags,
)
from models.checkpoint import load_model
from unlearn.methods import METHODS, find_method
from unlearn.request import ForgetRequest
from unlearn.saliency import to_percent
from utils.errors import NotFiniteError, run_script
from utils.files import PICTURE_FOLDER, check_id
from utils.loading import load_dataset
from utils.plots import method_comparison
from utils.saving import save_picture
from utils.tables import format_table, percent

EPOCHS = 5  # enough for SynthBloodMNIST, and short enough for a laptop
METHODS_SHOWN = ("RL_with_SalUn", "Retrain")
CLASS_SHOWN = 3  # the last one where there are fewer
ALL = "all"


def main(argv=None):
    began = time.perf_counter()
    parser = make_parser(
        __doc__, data_flags, lambda parser: training_flags(parser, EPOCHS), device_flags
    )
    group = parser.add_argument_group("walkthrough")
    group.add_argument(
        "--save_model_id", help="name of the base model; by default walkthrough_{data}"
    )
    group.add_argument(
        "--base_model_id", metavar="MODEL_ID", help="a trained base model to use; none is trained"
    )
    class_flag(group, required=False, note=f"; by default {CLASS_SHOWN}, or the last there is")
    group.add_argument(
        "--unlearn",
        nargs="+",
        default=METHODS_SHOWN,
        metavar="METHOD",
        help=f"{ALL}, or some of {', '.join(METHODS)}",
    )
    mask_flag(group)
    args = parser.parse_args(argv)
    methods = list(METHODS.values()) if args.unlearn == [ALL] else map(find_method, args.unlearn)
    methods = list(dict.fromkeys(methods))
    if any(method.uses_mask for method in methods):
        to_percent(args.mask_thresh)
    dataset = load_dataset(**data_source(args))
    last = dataset.num_classes - 1
    wanted = str(min(CLASS_SHOWN, last)) if args.class_to_forget is None else args.class_to_forget
    request = ForgetRequest.parse(wanted, dataset)
    request.split_for_unlearning(dataset.train)
    name = args.save_model_id
    if name is None:
        name = "walkthrough_" + re.sub(r"[^A-Za-z0-9._-]", "_", dataset.name)
    check_id(name, "--save_model_id")

    data = _flags(args, "dataset", "data_root", "num_workers")
    device = _flags(args, "device")
    _step(examine_dataset, [*data, *_flags(args, "input_size"), "--no_window"])
    base_id = args.base_model_id
    if base_id is None:
        _train_base(args, name, [*data, *device])
        base_id = f"{name}_best"
    model = ["--model_id", base_id, *data, *device]
    chosen = ["--class_to_forget", str(request.class_index)]
    _step(main_test, [*model, "--no_window"])
    if any(method.uses_mask for method in methods):
        _step(generate_mask, model)
    rows = [_row("base model", base_id, _step(main_test_unlearn, [*model, *chosen]))]
    failures = []
    for method in methods:
        mask = _flags(args, "mask_thresh") if method.uses_mask else []
        try:
            model_id = _step(main_unlearn, [*model, "--unlearn", method.id, *chosen, *mask])
        except NotFiniteError as error:  # that a method fails is a finding, not the end
            failures.append(f"{method.id} failed: {error}")
            print(failures[-1])
            continue
        unlearned = ["--model_id", model_id, *data, *device]
        rows.append(_row(method.id, model_id, _step(main_test_unlearn, [*unlearned, *chosen])))
        _step(main_test, [*unlearned, "--no_window"])

    forgotten = f"class {dataset.describe_class(request.class_index)} forgotten"
    print(f"\n{dataset.name}, {forgotten}\n")
    _print_rows(rows)
    print("\n".join(failures))
    picture = method_comparison(rows, f"{dataset.name}: {forgotten}")
    file_name = f"comparison_{request.id_part()}.png"
    save_picture(picture, PICTURE_FOLDER / base_id / file_name)
    print(f"walked through in {time.perf_counter() - began:.0f} s")
    return rows


def _train_base(args, name, flags):
    recipe = _flags(
        args, "epochs", "lr", "batch_size", "optimizer", "weight_decay", "seed", "arch", "stem"
    )
    size = _flags(args, "input_size") + (["--pretrained"] if args.pretrained else [])
    _step(main_train, ["--save_model_id", name, *flags, *recipe, *size])


def _flags(args, *names):
    """The named flags as they would be typed, without those that have no value."""
    values = vars(args)
    given = [name for name in names if values[name] is not None]
    return [word for name in given for word in (f"--{name}", str(values[name]))]


def _step(script, flags):
    print(f"\n$ python {script.__name__}.py {shlex.join(flags)}", flush=True)
    return script.main(flags)


def _row(name, model_id, figures):
    record, test = load_model(model_id)[1], figures.test_accuracy
    return {
        "name": name,
        "unlearn_accuracy_percent": 100 * figures.unlearn_accuracy,
        "remaining_accuracy_percent": 100 * figures.remaining_accuracy,
        "test_accuracy_percent": None if test is None else 100 * test,
        "seconds": record.get("seconds"),
    }


def _print_rows(rows):
    headers = ["model", "unlearn accuracy", "remaining accuracy", "test accuracy", "seconds"]
    cells = [
        [
            row["name"],
            *(
                percent(None if row[key] is None else row[key] / 100)
                for key in (
                    "unlearn_accuracy_percent",
                    "remaining_accuracy_percent",
                    "test_accuracy_percent",
                )
            ),
            None if row["seconds"] is None else f"{row['seconds']:.1f}",
        ]
        for row in rows
    ]
    print(format_table(headers, cells))


if __name__ == "__main__":
    run_script(main)

"""Run the whole walkthrough in one command: train, test, make masks, unlearn, test and compare.

It runs the scripts that the README walks through, one after the other, and prints each command.
"""

if __name__ == "__main__":  # before the other imports: Ctrl-C during them prints one line
    from utils.runtime import startup

    startup.end_on_ctrl_c()

import re
import shlex
import time
from argparse import Namespace

import examine_dataset
import generate_mask
import main_test
import main_test_unlearn
import main_train
import main_unlearn
from arg_parser import (
    data_flags,
    device_flags,
    load_dataset_arguments,
    make_parser,
    mask_flag,
    measures_flag,
    methods_flag,
    overwrite_flag,
    read_request,
    request_arguments,
    request_flags,
    training_flags,
)
from evaluation.registry import GROUPS
from unlearn.mask_threshold import threshold_to_percent
from unlearn.model_ids import FORGOTTEN
from unlearn.registry import find_methods
from utils.io.files import MODEL_FOLDER, PICTURE_FOLDER, SALIENCY_FOLDER, check_id
from utils.runtime.devices import pick_device
from utils.runtime.errors import UserError, interrupt_with_hint, run_script
from utils.runtime.startup import import_libraries
from utils.text import format_table

EPOCHS = 4  # enough for SynthBloodMNIST, and short enough for a laptop
METHODS_SHOWN = ("RL_with_SalUn", "Retrain")
CLASS_SHOWN = 3  # the last one where there are fewer
MEASURES = [name for name in GROUPS if name != "inside"]  # it takes longer than all others
COLUMNS = {
    "unlearn_accuracy_percent": "unlearn accuracy",
    "remaining_accuracy_percent": "remaining accuracy",
    "test_accuracy_percent": "test accuracy",
    "average_gap_points": "gap to Retrain",
    "attack_loss_auc": "attack AUC",
    "seconds": "seconds",
}


def main(argv: list[str] | None = None) -> list[dict]:
    """Return the rows of the last table."""
    began = time.perf_counter()
    parser = make_parser(
        __doc__, data_flags, lambda parser: training_flags(parser, EPOCHS), device_flags
    )
    note = f"; by default class {CLASS_SHOWN}, or the last one of fewer classes"
    request_flags(parser, required=False, note=note)
    group = parser.add_argument_group("walkthrough")
    group.add_argument(
        "--save_model_id", help="name of the base model; by default walkthrough_{dataset}"
    )
    group.add_argument(
        "--base_model_id",
        metavar="MODEL_ID",
        help="use this base model and train none",
    )
    methods_flag(group, METHODS_SHOWN)
    mask_flag(group)
    measures_flag(group, MEASURES)
    overwrite_flag(group)
    args = parser.parse_args(argv)
    methods = find_methods(args.unlearn)
    if any(method.uses_mask for method in methods):
        threshold_to_percent(args.mask_thresh)
    import_libraries()
    from unlearn.engine.progress import UNFINISHED_FOLDER
    from unlearn.request.request import ForgetRequest
    from utils.data.loading import load_dataset

    _check_base(parser, args)
    dataset = load_dataset(**load_dataset_arguments(args))
    request = read_request(args, dataset)
    if request is None:
        shown = str(min(CLASS_SHOWN, dataset.num_classes - 1))
        request = ForgetRequest.from_classes([shown], dataset)
    request.split_for_unlearning(dataset)
    name = args.save_model_id
    if name is None:
        name = "walkthrough_" + re.sub(r"[^A-Za-z0-9._-]", "_", dataset.name)
    check_id(name, "--save_model_id")
    device = pick_device(args.device, args.threads)
    # kept for all steps; a base model may need the images in another size
    _on_device = dataset.to(device) if args.base_model_id is None else None

    data = _flags(
        args, "dataset", "data_root", "num_workers", "data_on", "memory_limit", "cache_dir"
    )
    on_device = _flags(args, "device", "threads")
    _step(args, examine_dataset, [*data, *_flags(args, "input_size"), "--no_window"])
    base_id = args.base_model_id
    if base_id is None:
        _train_base(args, name, [*data, *on_device, *_continue_flags(args, f"{name}_*")])
        base_id = f"{name}_best"
    model = ["--model_id", base_id, *data, *on_device]
    forgetting = [*model, *_continue_flags(args, f"{base_id}{FORGOTTEN}*", UNFINISHED_FOLDER)]
    forget_flags = request_arguments(args)
    if request.classes:
        forget_flags = ["--class_to_forget", *map(str, request.classes)]
    _step(args, main_test, [*model, "--no_window"])
    if any(method.uses_mask for method in methods):
        masks = model if len(request.classes) == 1 else [*model, *forget_flags]
        _step(
            args, generate_mask, [*masks, *_continue_flags(args, f"{base_id}/*", SALIENCY_FOLDER)]
        )
    made, failures = {"base model": base_id}, []
    for method in methods:
        mask = _flags(args, "mask_thresh") if method.uses_mask else []
        try:
            made[method.id] = _step(
                args, main_unlearn, [*forgetting, "--unlearn", method.id, *forget_flags, *mask]
            )
        except UserError as error:  # the other methods can still run
            failures.append(f"{method.id} failed: {error}")
            print(failures[-1])
    rows = []
    for title, model_id in made.items():  # after all methods: Retrain is compared with each
        tested = ["--model_id", model_id, *data, *on_device]
        measures = ["--measures", *args.measures]
        results = _step(args, main_test_unlearn, [*tested, *forget_flags, *measures])
        rows.append(_row(title, model_id, results))
        if model_id != base_id:
            _step(args, main_test, [*tested, "--no_window"])

    forgotten = f"{request.description} forgotten"
    print(f"\n{dataset.name}, {forgotten}\n")
    _print_rows(rows)
    print("\n".join(failures))
    path = PICTURE_FOLDER / base_id / f"comparison_{request.id_part()}.png"
    _save_picture(rows, f"{dataset.name}: {forgotten}", path)
    print(f"finished in {time.perf_counter() - began:.0f} s")
    return rows


def _check_base(parser, args):
    """Raise UserError if --base_model_id is missing or unlearned, or makes other flags useless."""
    from models.checkpoint import model_path, read_record

    base_id = args.base_model_id
    if base_id is None:
        return
    defaults = Namespace(**{name: parser.get_default(name) for name in vars(args)})
    given, usual = (_recipe(each) + _flags(each, "save_model_id") for each in (args, defaults))
    usual = set(zip(usual[::2], usual[1::2], strict=True))
    unused = [pair[0] for pair in zip(given[::2], given[1::2], strict=True) if pair not in usual]
    unused += _switches(args)
    if unused:
        raise UserError(
            f"{', '.join(unused)}: --base_model_id {base_id} is trained already: leave "
            f"{'it' if len(unused) == 1 else 'them'} out"
        )
    check_id(base_id, "--base_model_id")
    if not model_path(base_id).exists():
        raise UserError(f"--base_model_id: there is no model {model_path(base_id)}: train it first")
    record = read_record(base_id)
    if record.get("kind") == "unlearned":
        raise UserError(f"--base_model_id {base_id} is an unlearned model: give its base model's")


def _train_base(args, name, flags):
    recipe = _recipe(args)
    own = _flags(args, "input_size") + _switches(args)
    _step(args, main_train, ["--save_model_id", name, *flags, *recipe, *own])


def _continue_flags(args, pattern, *folders):
    """Return the flag of a step whose files exist, from an earlier or interrupted walkthrough."""
    if args.overwrite:
        return ["--overwrite"]
    exists = any(any(folder.glob(pattern)) for folder in (MODEL_FOLDER, *folders))
    return ["--resume"] if exists else []


def _recipe(args):
    flags = _flags(args, "epochs", "lr", "batch_size", "optimizer", "weight_decay")
    return flags + _flags(args, "precision", "seed", "arch", "stem")


def _switches(args):
    """Return the given flags of the base model that have no value."""
    return ["--pretrained"] * args.pretrained + ["--compile"] * args.compile


def _flags(args, *names):
    """Return the named flags as command-line arguments, without those that are not given."""
    values = vars(args)
    given = [name for name in names if values[name] is not None]
    return [word for name in given for word in (f"--{name}", str(values[name]))]


def _step(args, script, flags):
    print(f"\n$ python {script.__name__}.py {shlex.join(flags)}", flush=True)
    try:
        return script.main(flags)
    except KeyboardInterrupt as interrupt:  # the script's own hint is for its own command
        hint = "the same command continues"
        if args.overwrite:
            hint = "the same command repeats them, and without --overwrite models and masks of the "
            hint += "same settings are kept"
        raise interrupt_with_hint(interrupt, f"finished steps are saved; {hint}") from None


def _row(name, model_id, results):
    from models.checkpoint import read_record

    figures = {key: results[key] for key in COLUMNS if key in results}
    return {"name": name, **figures, "seconds": read_record(model_id).get("seconds")}


def _save_picture(rows, title, path):
    from utils.plots.bars import method_comparison
    from utils.plots.saving import save_picture

    save_picture(method_comparison(rows, title), path)


def _print_rows(rows):
    columns = {key: label for key, label in COLUMNS.items() if any(key in row for row in rows)}
    cells = [[row["name"], *(_cell(row.get(key), key) for key in columns)] for row in rows]
    print(format_table(["model", *columns.values()], cells))


def _cell(value, key):
    if value is None:
        return None
    digits = 1 if key == "seconds" else 3
    return f"{value:.{digits}f}%" if key.endswith("_percent") else f"{value:.{digits}f}"


if __name__ == "__main__":
    run_script(main)

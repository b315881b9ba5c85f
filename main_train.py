"""Train a base model: a data set in, {save_model_id}_best.pt and {save_model_id}_last.pt out."""

import sys
from dataclasses import asdict

from arg_parser import (
    DEFAULT_LR,
    command_line,
    data_flags,
    data_source,
    device_flags,
    make_parser,
    shards_flag,
    training_flags,
)
from models.architectures import build_model, count_weights, in_shards, make_spec
from models.checkpoint import (
    delete_training_state,
    load_training_state,
    model_path,
    save_model,
    save_training_state,
)
from models.opening import describe_data
from models.shards import check_shards, training_run
from utils.devices import describe, pick_device
from utils.errors import run_script
from utils.files import MODEL_FOLDER, PICTURE_FOLDER, check_id, ensure_folder
from utils.loading import load_dataset
from utils.plots import training_curves
from utils.precision import pick_precision
from utils.saving import save_picture
from utils.training import Recipe


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    parser = make_parser(__doc__, data_flags, training_flags, shards_flag, device_flags)
    parser.add_argument(
        "--save_model_id", required=True, help="name of the model: letters, digits, '.', '_', '-'"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with a run of this name that was interrupted"
    )
    args = parser.parse_args(argv)
    name = check_id(args.save_model_id, "--save_model_id")
    check_id(f"{name}_best", "--save_model_id, with _best,")  # before hours of work go by
    ensure_folder(MODEL_FOLDER)
    device = pick_device(args.device, args.threads)
    dataset = load_dataset(**data_source(args))
    data = describe_data(dataset)
    dataset = dataset.to(device)

    spec = make_spec(
        args.arch,
        dataset.num_classes,
        dataset.channels,
        dataset.input_size,
        pretrained=args.pretrained,
        stem=args.stem,
    )
    if args.sisa_shards:
        spec = in_shards(spec, args.sisa_shards, args.seed, dataset.is_multi_label)
        check_shards(len(dataset.train), spec)
    recipe = Recipe(
        args.epochs,
        args.lr or DEFAULT_LR[args.optimizer],
        args.batch_size,
        args.optimizer,
        args.weight_decay,
        args.seed,
        pick_precision(args.precision, device),
    )
    origin = {
        "train_digest": data["train_digest"],
        "spec": asdict(spec),
        "recipe": asdict(recipe),
    }
    state = load_training_state(name, origin) if args.resume else None
    if not args.resume:
        _say_what_goes(name)
    model = build_model(spec, seed=recipe.seed, initial_weights=state is None).to(device)
    run = training_run(model, dataset.train, dataset.val, recipe)
    if state:
        run.restore(state)
    what = f"{spec.shards} shards of {spec.arch}" if spec.shards else spec.arch
    print(
        f"training {what} ({count_weights(model):,} weights) on {dataset.name}, "
        f"{len(dataset.train):,} images, {recipe.precision}, {describe(device)}"
    )
    print(dataset.describe_place(recipe.batch_size))
    _train_and_keep(run, name, origin)

    record = {
        "kind": "base",
        **data,
        "recipe": origin["recipe"],
        "history": run.history,
        "seconds": run.seconds,
        "device": describe(device),
        "command": command_line(argv, __file__),
    }
    last = record | {"selection": "last", "epoch": recipe.epochs}
    print(f"model: {save_model(f'{name}_last', model, last)}, epoch {recipe.epochs}")
    model.load_state_dict(run.best_weights)
    best = record | {"selection": "best", "epoch": run.best_epoch}
    epochs = ", ".join(map(str, run.best_epoch)) if spec.shards else run.best_epoch
    print(f"model: {save_model(f'{name}_best', model, best)}, epoch {epochs}")
    delete_training_state(name)
    title = f"{name} on {dataset.name}"
    if spec.shards:  # each has a best epoch of its own
        curves = training_curves(run.history, f"{title}, mean of {spec.shards} shards")
    else:
        curves = training_curves(run.history, title, run.best_epoch)
    save_picture(curves, PICTURE_FOLDER / name / "training.png")
    print(f"trained in {run.seconds:.1f} s")


def _say_what_goes(name):
    """Replacing is what running a command again asks for, but not without a word."""
    for model_id in (f"{name}_best", f"{name}_last", f"{name}_resume"):
        if model_path(model_id).exists():
            print(f"note: {model_path(model_id)} will be replaced")


def _train_and_keep(run, name, origin):
    """Train, saving after each epoch what --resume needs."""
    saved = len(run.history)

    def keep(run):
        nonlocal saved
        save_training_state(name, origin, run.state())
        saved = len(run.history)

    try:
        run.run(after_epoch=keep)
    except KeyboardInterrupt:
        how = f"{saved} of {run.recipe.epochs} epochs are saved; add --resume to go on"
        raise KeyboardInterrupt(how if saved else None) from None


if __name__ == "__main__":
    run_script(main)

"""Train a base model on a data set; save {save_model_id}_best.pt and {save_model_id}_last.pt."""

if __name__ == "__main__":  # before the other imports: Ctrl-C during them prints one line
    from utils.runtime import startup

    startup.end_on_ctrl_c()

import sys
from contextlib import suppress
from dataclasses import asdict

from arg_parser import (
    DEFAULT_LR,
    command_line,
    data_flags,
    device_flags,
    load_dataset_arguments,
    make_parser,
    overwrite_flag,
    resume_flag,
    shards_flag,
    training_flags,
)
from utils.io.files import MODEL_FOLDER, PICTURE_FOLDER, check_id, check_overwrite, ensure_folder
from utils.io.locks import exclusive_lock
from utils.runtime import processes
from utils.runtime.devices import describe, pick_device, print_busy_note
from utils.runtime.errors import NotFiniteError, UserError, interrupt_with_hint, run_script
from utils.runtime.startup import import_libraries
from utils.train.recipe import Recipe


def main(argv: list[str] | None = None) -> None:
    """Train, or resume training, and save the model of the best and of the last epoch."""
    argv = sys.argv[1:] if argv is None else argv
    parser = make_parser(__doc__, data_flags, training_flags, shards_flag, device_flags)
    parser.add_argument(
        "--save_model_id",
        required=True,
        help="the model's name; letters, digits, '.', '_' and '-'",
    )
    resume_flag(parser)
    overwrite_flag(parser)
    args = parser.parse_args(argv)
    name = check_id(args.save_model_id, "--save_model_id")
    check_id(f"{name}_best", "--save_model_id, with _best,")  # before hours of work
    import_libraries()
    from models.architectures import make_spec, sharded_spec
    from models.checkpoint import training_state_path
    from models.loading import check_ranks_have_same_data, dataset_record
    from models.shards import check_shards
    from utils.data.loading import check_images_differ, load_dataset
    from utils.train.precision import pick_precision

    ensure_folder(MODEL_FOLDER)
    ensure_folder(PICTURE_FOLDER)
    device = pick_device(args.device, args.threads)
    print_busy_note(device)
    dataset = load_dataset(**load_dataset_arguments(args))
    check_ranks_have_same_data(dataset)
    check_images_differ(dataset)
    data, val_digest = dataset_record(dataset), dataset.digest("val")
    dataset = dataset.to(device)

    spec = make_spec(
        args.arch,
        dataset.num_classes,
        dataset.channels,
        dataset.input_size,
        pretrained=args.pretrained,
        stem=args.stem,
    )
    if args.compile and processes.world_size() > 1:
        raise UserError("--compile works in one process only: leave it out, or torchrun")
    if args.sisa_shards:
        spec = sharded_spec(spec, args.sisa_shards, args.seed, dataset.is_multi_label)
        check_shards(len(dataset.train), spec)
    recipe = Recipe(
        args.epochs,
        args.lr or DEFAULT_LR[args.optimizer],
        args.batch_size,
        args.optimizer,
        args.weight_decay,
        args.seed,
        pick_precision(args.precision, device),
        args.compile,
    )
    origin = {
        "train_digest": data["train_digest"],
        "val_digest": val_digest,
        "spec": asdict(spec),
        "recipe": asdict(recipe),
    }
    with exclusive_lock(training_state_path(name), f"the model {name}"):
        state, finished = _find_existing_run(name, origin, args.resume, args.overwrite)
        if finished:
            print(f"{' and '.join(map(str, _paths(name)))} are finished already")
            return
        _train(args, argv, name, origin, data, dataset, device, state)


def _train(args, argv, name, origin, data, dataset, device, state):
    from models.architectures import ModelSpec, build_model, count_parameters
    from models.checkpoint import delete_training_state, restore_run
    from models.shards import training_run

    recipe, spec = Recipe(**origin["recipe"]), ModelSpec(**origin["spec"])
    model = build_model(spec, seed=recipe.seed, initial_weights=state is None).to(device)
    run = training_run(model, dataset.train, dataset.val, recipe)
    if state:
        restore_run(run, state, name)
        print(f"resuming after epoch {len(run.history)}")
    what = f"{spec.shards} shards of {spec.arch}" if spec.shards else spec.arch
    print(
        f"training {what} ({count_parameters(model):,} weights) on {dataset.name}, "
        f"{len(dataset.train):,} images, {recipe.precision}, {describe(device)}"
    )
    print(dataset.describe_placement(recipe.batch_size))
    if recipe.compiled:
        print("the first step compiles the network, which takes minutes")
    _train_and_keep(run, name, origin)
    try:
        _save(run, name, origin, data, describe(device), command_line(argv, __file__))
    except KeyboardInterrupt as interrupt:
        hint = f"all {recipe.epochs} epochs are saved; add --resume to continue"
        raise interrupt_with_hint(interrupt, hint) from None
    delete_training_state(name)
    print(f"trained in {run.seconds:.1f} s")


def _save(run, name, origin, data, device, command):
    from models.checkpoint import save_model
    from utils.plots.curves import training_curves
    from utils.plots.saving import save_picture

    model, recipe, spec = run.model, run.recipe, run.model.spec
    record = {
        "kind": "base",
        **data,
        "recipe": origin["recipe"],
        "history": run.history,
        "seconds": run.seconds,
        "device": device,
        "command": command,
    }
    last = record | {"selection": "last", "epoch": recipe.epochs}
    print(f"model: {save_model(f'{name}_last', model, last)}, epoch {recipe.epochs}")
    model.load_state_dict(run.best_weights)
    best = record | {"selection": "best", "epoch": run.best_epoch}
    epochs = ", ".join(map(str, run.best_epoch)) if spec.shards else run.best_epoch
    print(f"model: {save_model(f'{name}_best', model, best)}, epoch {epochs}")
    title = f"{name} on {data['dataset']}"
    if spec.shards:  # each shard has its own best epoch
        curves = training_curves(run.history, f"{title}, mean of {spec.shards} shards")
    else:
        curves = training_curves(run.history, title, run.best_epoch)
    save_picture(curves, PICTURE_FOLDER / name / "training.png")


def _paths(name):
    from models.checkpoint import model_path

    return [model_path(f"{name}_best"), model_path(f"{name}_last")]


def _find_existing_run(name, origin, resume, overwrite):
    """Return (saved state to resume from or None, whether the models of this run are finished).

    Raises UserError if existing files would be replaced, or if the saved state is of another run.
    """
    from models.checkpoint import load_training_state, training_state_path

    path = training_state_path(name)
    if resume:
        try:
            state = load_training_state(name, origin)
        except UserError:
            if not overwrite:
                raise
            state = None
        if state:
            return state, False
        if all(_belongs_to_run(path, origin) for path in _paths(name)):
            return None, True
        check_overwrite(_paths(name), overwrite)
        print("no interrupted run to resume: training starts from scratch")
    elif path.exists() and not overwrite:
        raise UserError(
            f"a run of this name was interrupted, {path}: add --resume to continue it, or "
            "--overwrite to start from scratch"
        )
    check_overwrite(_paths(name), overwrite)
    return None, False


def _belongs_to_run(path, origin):
    """Return whether the file is the finished model of a run of this origin."""
    from models.checkpoint import read_record

    try:
        record = read_record(path.stem)
    except UserError:  # missing or damaged
        return False
    return record.get("kind") == "base" and all(
        record.get(key) == value for key, value in origin.items() if key != "val_digest"
    )


def _train_and_keep(run, name, origin):
    """Train; save after each epoch what --resume needs."""
    from models.checkpoint import save_training_state, training_state_path
    from utils.io.background import BackgroundWorker, copy_to_cpu

    saved, background = len(run.history), BackgroundWorker()

    def keep(run):
        state, epoch = copy_to_cpu(run.state()), len(run.history)

        def write():
            nonlocal saved
            path = training_state_path(name)
            if saved and not path.exists():
                print(f"note: {path} was removed during training; it is saved again")
            save_training_state(name, origin, state)
            saved = epoch

        background.submit(write)

    def kept():
        hint = f"{saved} of {run.recipe.epochs} epochs are saved; add --resume to continue"
        return hint if saved else None

    try:
        run.run(after_epoch=keep)
        background.wait()
    except KeyboardInterrupt as interrupt:
        with suppress(UserError):  # the number of saved epochs shows that the last one is not
            background.wait()
        raise interrupt_with_hint(interrupt, kept()) from None
    except NotFiniteError as error:
        background.wait()
        if not saved:
            raise
        raise UserError(
            f"{error} with --overwrite: --resume would continue after epoch {saved}, which is "
            f"saved in {training_state_path(name)}, at the same rate and fail again"
        ) from None
    except UserError as error:  # the state of an epoch could not be saved
        if not saved:
            raise
        raise UserError(f"{error}; {kept()}") from error


if __name__ == "__main__":
    run_script(main)

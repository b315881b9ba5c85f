"""Train a base model on a data set; save {save_model_id}_best.pt and {save_model_id}_last.pt."""

if __name__ == "__main__":  # before the other imports: Ctrl-C during them prints one line
    from utils.runtime import startup

    startup.end_on_ctrl_c()

import sys
from contextlib import ExitStack, nullcontext
from dataclasses import replace

from arg_parser import (
    DEFAULT_LR,
    command_line,
    data_flags,
    device_flags,
    load_dataset_arguments,
    make_parser,
    overwrite_flag,
    resume_flag,
    seeds_flag,
    shards_flag,
    training_flags,
)
from utils.io.files import MODEL_FOLDER, PICTURE_FOLDER, check_id, ensure_folder
from utils.runtime import processes
from utils.runtime.devices import pick_device, print_busy_note
from utils.runtime.errors import UserError, run_script
from utils.runtime.startup import import_libraries
from utils.train.recipe import Recipe


def main(argv: list[str] | None = None) -> None:
    """Train, or resume training, and save each model of the best and of the last epoch."""
    argv = sys.argv[1:] if argv is None else argv
    parser = make_parser(__doc__, data_flags, training_flags, seeds_flag, shards_flag, device_flags)
    parser.add_argument(
        "--save_model_id",
        required=True,
        help="the model's name; letters, digits, '.', '_' and '-'",
    )
    resume_flag(parser)
    overwrite_flag(parser)
    args = parser.parse_args(argv)
    names = _names(args)
    import_libraries()
    from models.loading import check_ranks_have_same_data
    from utils.data.loading import check_images_differ, load_dataset

    ensure_folder(MODEL_FOLDER)
    ensure_folder(PICTURE_FOLDER)
    device = pick_device(args.device, args.threads)
    print_busy_note(device)
    dataset = load_dataset(**load_dataset_arguments(args))
    check_ranks_have_same_data(dataset)
    check_images_differ(dataset)
    jobs = _jobs(args, names, dataset, device)
    dataset = dataset.to(device)
    with ExitStack() as locks:
        for job in jobs:
            locks.enter_context(job.lock())
        _train_all(args, jobs, dataset, command_line(argv, __file__))


def _names(args):
    """Return seed -> name of the model trained with it. Raises UserError for an invalid name."""
    check_id(args.save_model_id, "--save_model_id")
    names = {args.seed: args.save_model_id}
    if args.seeds:
        names = {seed: f"{args.save_model_id}_seed{seed}" for seed in args.seeds}
    for name in names.values():  # before hours of work
        ending = name.removeprefix(args.save_model_id)
        check_id(f"{name}_best", f"--save_model_id, with {ending}_best,")
    return names


def _jobs(args, names, dataset, device):
    from models.architectures import make_spec, sharded_spec
    from models.loading import dataset_record
    from models.shards import check_shards
    from models.training_job import TrainingJob
    from utils.train.precision import pick_precision

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
    data = {**dataset_record(dataset), "val_digest": dataset.digest("val")}
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
    jobs = []
    for seed, name in names.items():
        if args.sisa_shards:
            spec = sharded_spec(spec, args.sisa_shards, seed, dataset.is_multi_label)
            check_shards(len(dataset.train), spec)
        jobs.append(TrainingJob(name, spec, replace(recipe, seed=seed), data))
    return jobs


def _train_all(args, jobs, dataset, command):
    """Train one model after the other, all of which are checked before the first."""
    from models.training_job import check_none_finished, one_of_several

    if args.seeds and not (args.resume or args.overwrite):
        check_none_finished(jobs)
    existing = {job.name: job.find_existing(args.resume, args.overwrite) for job in jobs}
    finished = []
    for job in jobs:
        state, is_finished = existing.pop(job.name)  # the state needs much memory
        if is_finished:
            print(f"{' and '.join(map(str, job.paths))} are finished already")
        else:
            if args.seeds:
                print(f"\n{job.name}, seed {job.recipe.seed}", flush=True)
            if args.resume and not state:
                print("no interrupted run to resume: training starts from scratch")
            with one_of_several(job, finished) if args.seeds else nullcontext():
                job.run(dataset, state, command)
        finished.append(job.name)
    if args.seeds:
        print("\nbase models that differ only in the seed, for main_compare.py --model_id:")
        print(" ".join(job.best_id for job in jobs))


if __name__ == "__main__":
    run_script(main)

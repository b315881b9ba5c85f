"""Compare methods on one request, over several seeds, in a table ranked by distance to Retrain."""

if __name__ == "__main__":  # before the other imports: Ctrl-C during them prints one line
    from utils.runtime import startup

    startup.end_on_ctrl_c()

import sys
from contextlib import ExitStack

from arg_parser import (
    MASK_THRESH,
    base_models_flags,
    command_line,
    compare_flags,
    data_flags,
    device_flags,
    make_parser,
    open_model_arguments,
    overwrite_flag,
    read_request,
)
from unlearn.engine.method import BATCH_SIZE, MAX_BATCHES_PER_STEP
from unlearn.mask_threshold import threshold_to_percent
from unlearn.model_ids import FORGOTTEN, encode_number
from unlearn.registry import find_methods, load_plugins
from utils.io.files import (
    MODEL_FOLDER,
    PICTURE_FOLDER,
    RESULT_FOLDER,
    check_id,
    ensure_folder,
)
from utils.io.locks import exclusive_lock
from utils.runtime.devices import describe, pick_device, print_busy_note
from utils.runtime.errors import run_script
from utils.runtime.startup import import_libraries


def main(argv: list[str] | None = None) -> list:
    """Return the rows of the table."""
    argv = sys.argv[1:] if argv is None else argv
    groups = (base_models_flags, data_flags, compare_flags, device_flags, overwrite_flag)
    args = make_parser(__doc__, *groups).parse_args(argv)
    load_plugins(args.plugin)
    chosen = find_methods(args.unlearn)
    if any(method.uses_mask for method in chosen):
        threshold_to_percent(args.mask_thresh)
    import_libraries()
    from evaluation.comparison.joint import joint_id
    from evaluation.comparison.kept_outputs import FOLDER
    from models.checkpoint import load_model
    from models.loading import load_model_and_data
    from unlearn.lineage.base_models import read_base_records

    for folder in (MODEL_FOLDER, RESULT_FOLDER, FOLDER, PICTURE_FOLDER):
        ensure_folder(folder)
    device = pick_device(args.device, args.threads)
    print_busy_note(device)
    first, *others = read_base_records(args.model_id)
    model, record, dataset = load_model_and_data(device=device, **open_model_arguments(args, first))
    models = {first: (model, record)} | {each: load_model(each, device) for each in others}
    methods = find_methods(args.unlearn, shards=model.spec.shards > 0)
    request = read_request(args, dataset)
    ending = f"{FORGOTTEN}{request.id_part()}_comparison"
    if args.mask_thresh != MASK_THRESH:  # each threshold has its own table
        ending += f"_mask{encode_number(args.mask_thresh)}"
    name = f"{joint_id(args.model_id)}{ending}"
    files = [check_id(f"{each}{ending}", "the comparison's name") for each in args.model_id]
    with ExitStack() as locks:
        for each in dict.fromkeys([*files, check_id(name, "the comparison's name")]):
            path = RESULT_FOLDER / f"{each}.json"
            locks.enter_context(exclusive_lock(path, f"the comparison {each}"))
        return _compare(args, argv, name, files, methods, models, dataset, request)


def _compare(args, argv, name, files, methods, models, dataset, request):
    from evaluation.comparison.runs import check_some_can_run, describe_plan, plan_runs, run_all
    from evaluation.comparison.trials import Comparison
    from evaluation.comparison.writing import write_results
    from unlearn.lineage.parents import RETRAIN

    comparisons = [
        Comparison(
            base_id,
            model,
            record,
            dataset,
            request,
            mask_thresh=args.mask_thresh,
            path=RESULT_FOLDER / f"{file}.json",
            command=command_line(argv, __file__),
            overwrite=args.overwrite,
        )
        for file, (base_id, (model, record)) in zip(files, models.items(), strict=True)
    ]
    seeds = list(dict.fromkeys(args.seeds))
    print(
        f"{', '.join(models)} on {dataset.name}: {request.description} forgotten by "
        f"{len(methods)} method{'s' if len(methods) > 1 else ''}, "
        f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}, "
        f"{describe(dataset.train.device)}"
    )
    print(dataset.describe_placement(MAX_BATCHES_PER_STEP * BATCH_SIZE))
    runs = plan_runs(comparisons, methods, seeds, args.retrains)
    check_some_can_run(runs)
    print(describe_plan(runs))
    for comparison in comparisons:
        comparison.base_figures()
    try:
        run_all(runs)
    except KeyboardInterrupt:
        if any(run.finished() for run in runs):
            write_results(runs, name, args.rank_by)
        raise
    rows = write_results(runs, name, args.rank_by)
    missing = [str(seed) for run in runs for seed in run.failed_retrains()]
    if missing:
        print(
            f"{RETRAIN} failed with seed {', '.join(missing)}: ratios, gaps to it, and the "
            "percentages of its time, are missing; the same command tries again",
            file=sys.stderr,
        )
        sys.exit(1)
    return rows


if __name__ == "__main__":
    run_script(main)

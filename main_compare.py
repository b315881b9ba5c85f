"""Compare methods on one request, over several seeds, in a table ranked by distance to Retrain."""

if __name__ == "__main__":  # before the other imports: Ctrl-C during them prints one line
    from utils.runtime import startup

    startup.end_on_ctrl_c()

import sys
import time

from arg_parser import (
    MASK_THRESH,
    command_line,
    compare_flags,
    data_flags,
    device_flags,
    make_parser,
    open_model_arguments,
    overwrite_flag,
    read_request,
    trained_model_flags,
)
from unlearn.engine.method import BATCH_SIZE, MAX_BATCHES_PER_STEP
from unlearn.mask_threshold import threshold_to_percent
from unlearn.model_ids import FORGOTTEN, encode_number
from unlearn.registry import METHODS, find_methods, load_plugins
from utils.io.files import (
    MODEL_FOLDER,
    PICTURE_FOLDER,
    RESULT_FOLDER,
    check_id,
    ensure_folder,
    write_atomically,
)
from utils.io.locks import exclusive_lock
from utils.runtime.devices import describe, pick_device, print_busy_note
from utils.runtime.errors import UserError, interrupt_with_hint, run_script
from utils.runtime.startup import import_libraries
from utils.text import format_table


def main(argv: list[str] | None = None) -> list:
    """Return the rows of the table."""
    argv = sys.argv[1:] if argv is None else argv
    groups = (trained_model_flags, data_flags, compare_flags, device_flags, overwrite_flag)
    args = make_parser(__doc__, *groups).parse_args(argv)
    load_plugins(args.plugin)
    chosen = find_methods(args.unlearn)
    if any(method.uses_mask for method in chosen):
        threshold_to_percent(args.mask_thresh)
    import_libraries()
    from models.loading import load_model_and_data
    from unlearn.lineage.parents import RETRAIN

    ensure_folder(MODEL_FOLDER)
    ensure_folder(RESULT_FOLDER)
    ensure_folder(PICTURE_FOLDER)
    device = pick_device(args.device, args.threads)
    print_busy_note(device)
    model, record, dataset = load_model_and_data(device=device, **open_model_arguments(args))
    if record.get("kind") == "unlearned":
        raise UserError(f"{args.model_id} is an unlearned model already: give its base model's id")
    chosen = find_methods(args.unlearn, shards=model.spec.shards > 0)
    methods = dict.fromkeys([METHODS[RETRAIN], *chosen])
    request = read_request(args, dataset)
    name = f"{args.model_id}{FORGOTTEN}{request.id_part()}_comparison"
    if args.mask_thresh != MASK_THRESH:  # each threshold has its own table
        name += f"_mask{encode_number(args.mask_thresh)}"
    check_id(name, "the comparison's name")
    with exclusive_lock(RESULT_FOLDER / f"{name}.json", f"the comparison {name}"):
        return _compare(args, argv, name, methods, model, record, dataset, request)


def _compare(args, argv, name, methods, model, record, dataset, request):
    from evaluation.comparison.trials import Comparison, Trial
    from unlearn.lineage.parents import RETRAIN

    comparison = Comparison(
        args.model_id,
        model,
        record,
        dataset,
        request,
        mask_thresh=args.mask_thresh,
        path=RESULT_FOLDER / f"{name}.json",
        command=command_line(argv, __file__),
        overwrite=args.overwrite,
    )
    seeds = list(dict.fromkeys(args.seeds))
    print(
        f"{args.model_id} on {dataset.name} forgets {request.description}: {len(methods)} methods, "
        f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}, {describe(dataset.train.device)}"
    )
    print(dataset.describe_placement(MAX_BATCHES_PER_STEP * BATCH_SIZE))
    trials = [Trial(method, seed) for seed in seeds for method in methods]
    _check_some_can_run(comparison, trials)
    comparison.base_figures()
    figures = {trial: comparison.finished(trial) for trial in trials}
    try:
        _run_all(comparison, figures)
    except KeyboardInterrupt:
        if any(figures.values()):
            _write(comparison, figures, name)
        raise
    rows = _write(comparison, figures, name)
    missing = [str(seed) for seed in seeds if figures[Trial(METHODS[RETRAIN], seed)] is None]
    if missing:
        print(
            f"{RETRAIN} failed with seed {', '.join(missing)}: the gaps to it, and the percentages "
            "of its time, are missing; the same command tries again",
            file=sys.stderr,
        )
        sys.exit(1)
    return rows


def _check_some_can_run(comparison, trials):
    """Raise UserError before any work if no requested method but Retrain can run."""
    from unlearn.lineage.parents import RETRAIN

    requested = [trial for trial in trials if trial.method.id != RETRAIN]
    faults = [comparison.fault(trial) for trial in requested]
    if requested and all(faults):
        raise UserError(faults[0])


def _write(comparison, figures, name):
    """Write table and picture of the trials in `figures` and of all trials finished earlier."""
    from evaluation.comparison.ranking import (
        COLUMNS,
        cells,
        describe_seeds,
        ranked_rows,
        to_csv,
        to_markdown,
    )
    from utils.plots.comparison import forgetting_against_utility
    from utils.plots.saving import save_picture

    figures, left_out = dict(figures), {}
    for trial in comparison.earlier():
        if trial not in figures:
            figures[trial] = comparison.finished(trial)
            if figures[trial] is None:
                left_out[trial.method.id] = True
    found, failures = {}, {}
    for trial, its_figures in figures.items():
        if its_figures is not None:
            found.setdefault(trial.method.id, {})[trial.seed] = its_figures
    for trial, why in comparison.failures:
        failures.setdefault(trial.method.id, f"seed {trial.seed}: {why}")
    rows = ranked_rows(comparison.base_figures(), found, failures)
    seeds = sorted({seed for by_seed in found.values() for seed in by_seed})
    forgotten = f"{comparison.request.description} forgotten"
    title = f"{comparison.dataset.name}, {forgotten}"
    print(f"\n{title}\n")
    print(
        format_table(
            ["method", *(column.heading for column in COLUMNS)], [cells(row) for row in rows]
        )
    )
    for method_id, why in failures.items():
        print(f"{method_id} failed: {why}")
    if left_out:
        print(
            f"left out: {', '.join(left_out)}: their models, or figures of some columns, are "
            "missing; name them in --unlearn to add them again"
        )
    caption = f"{comparison.base_id} on {title}; {describe_seeds(seeds)}"
    write_atomically(RESULT_FOLDER / f"{name}.csv", to_csv(rows))
    markdown, warning = to_markdown(rows, caption), comparison.mask_warning()
    if warning:
        print(f"WARNING: methods with SalUn: {warning}")
        markdown += f"\nWARNING: methods with SalUn: {warning}\n".encode()
    write_atomically(RESULT_FOLDER / f"{name}.md", markdown)
    print(f"\ntable: {RESULT_FOLDER / name}.csv and .md")
    picture = forgetting_against_utility(
        [_mark(row) for row in rows], f"{comparison.base_id}\n{forgotten}"
    )
    file_name = f"methods_{name.split(FORGOTTEN)[-1].removesuffix('_comparison')}.png"
    save_picture(picture, PICTURE_FOLDER / comparison.base_id / file_name)
    return rows


def _run_all(comparison, figures):
    """Run the trials whose `figures` are None; print each outcome and the remaining time."""
    to_do = [trial for trial in figures if figures[trial] is None]
    seconds = {
        trial.method: done["seconds"]
        for trial, done in figures.items()
        if done is not None and "seconds" in done  # unknown in some models of other programs
    }
    if len(to_do) < len(figures):
        print(f"{len(figures) - len(to_do)} of {len(figures)} trials are finished already")
    while to_do:
        trial = to_do[0]
        print(f"\n{trial.method.id}, seed {trial.seed}", flush=True)
        began = time.perf_counter()
        try:
            figures[trial] = comparison.run(trial)
        except KeyboardInterrupt as interrupt:
            finished = sum(each is not None for each in figures.values())
            kept = f"{finished} of {len(figures)} trials are finished; the same command continues"
            raise interrupt_with_hint(interrupt, kept) from None
        seconds[trial.method] = time.perf_counter() - began
        del to_do[0]
        done = figures[trial]
        outcome = f"failed: {comparison.failures[-1][1]}" if done is None else _outcome(done)
        left, plural = _time_left(to_do, seconds), "" if len(to_do) == 1 else "s"
        print(
            f"  {outcome}; {len(to_do)} trial{plural} left, about {left / 60:.0f} min", flush=True
        )


def _outcome(figures):
    seconds = f", {figures['seconds']:.1f} s" if "seconds" in figures else ""
    return (
        f"unlearn accuracy {figures['unlearn_accuracy_percent']:.2f}%, "
        f"test accuracy {figures['test_accuracy_percent']:.2f}%{seconds}"
    )


def _time_left(to_do, seconds):
    """Return seconds: a method takes as long as with another seed, a new one as the mean of all."""
    usual = sum(seconds.values()) / len(seconds)
    return sum(seconds.get(trial.method, usual) for trial in to_do)


def _mark(row):
    """Return the row as a mark in the picture."""
    from evaluation.comparison.ranking import NOTHING_DONE
    from unlearn.lineage.parents import RETRAIN

    roles = {RETRAIN: "reference", NOTHING_DONE: "base"}
    return {
        "name": row.name,
        "role": roles.get(row.name, "method"),
        "forgetting": row.mean("unlearn_accuracy_percent"),
        "utility": row.mean("test_accuracy_percent"),
        "spreads": [row.spread(f"{kind}_accuracy_percent") for kind in ("unlearn", "test")],
        "seconds": row.mean("seconds"),
    }


if __name__ == "__main__":
    run_script(main)

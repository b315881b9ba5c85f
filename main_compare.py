"""Every method on one request, over several seeds: one table, nearest to Retrain first."""

import sys
import time

from arg_parser import (
    asked_request,
    command_line,
    compare_flags,
    data_flags,
    device_flags,
    make_parser,
    model_and_data,
    overwrite_flag,
    trained_model_flags,
)
from evaluation.comparison import Comparison, Trial
from evaluation.ranking import COLUMNS, NOTHING_DONE, cells, ranked_rows, to_csv, to_markdown
from models.opening import open_model_and_data
from unlearn.config import BATCH_SIZE
from unlearn.ids import FORGOTTEN
from unlearn.lineage import RETRAIN
from unlearn.methods import METHODS, find_methods
from unlearn.saliency import to_percent
from utils.comparison_plot import forgetting_against_utility
from utils.devices import describe, pick_device
from utils.errors import UserError, run_script, stopped_with
from utils.files import (
    MODEL_FOLDER,
    PICTURE_FOLDER,
    RESULT_FOLDER,
    check_id,
    ensure_folder,
    write_atomically,
)
from utils.locks import only_here
from utils.saving import save_picture
from utils.tables import format_table


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    groups = (trained_model_flags, data_flags, compare_flags, device_flags, overwrite_flag)
    args = make_parser(__doc__, *groups).parse_args(argv)
    if any(method.uses_mask for method in find_methods(args.unlearn)):
        to_percent(args.mask_thresh)
    ensure_folder(MODEL_FOLDER)
    ensure_folder(RESULT_FOLDER)
    device = pick_device(args.device, args.threads)
    model, record, dataset = open_model_and_data(device=device, **model_and_data(args))
    if record.get("kind") == "unlearned":
        raise UserError(f"{args.model_id} is an unlearned model already: give its base model's id")
    chosen = find_methods(args.unlearn, shards=model.spec.shards > 0)
    methods = dict.fromkeys([METHODS[RETRAIN], *chosen])
    request = asked_request(args, dataset)
    name = check_id(
        f"{args.model_id}{FORGOTTEN}{request.id_part()}_comparison", "the comparison's name"
    )
    with only_here(RESULT_FOLDER / f"{name}.json", f"the comparison {name}"):
        return _compare(args, argv, name, methods, model, record, dataset, request)


def _compare(args, argv, name, methods, model, record, dataset, request):
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
        f"{args.model_id} on {dataset.name} forgets {request.words}: {len(methods)} methods, "
        f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}, {describe(dataset.train.device)}"
    )
    print(dataset.describe_place(BATCH_SIZE))
    base = comparison.base_figures()
    trials = [Trial(method, seed) for seed in seeds for method in methods]
    found = _run_all(comparison, trials)

    failures = {}
    for trial, why in comparison.failures:
        failures.setdefault(trial.method.id, f"seed {trial.seed}: {why}")
    rows = ranked_rows(base, found, failures)
    print(f"\n{dataset.name}, {request.words} forgotten\n")
    print(format_table(["method", *COLUMNS.values()], [cells(row) for row in rows]))
    for method_id, why in failures.items():
        print(f"{method_id} failed: {why}")
    write_atomically(RESULT_FOLDER / f"{name}.csv", to_csv(rows))
    write_atomically(RESULT_FOLDER / f"{name}.md", to_markdown(rows))
    print(f"\ntable: {RESULT_FOLDER / name}.csv and .md")
    picture = forgetting_against_utility(
        [_mark(row) for row in rows], f"{args.model_id}\n{request.words} forgotten"
    )
    save_picture(picture, PICTURE_FOLDER / args.model_id / f"methods_{request.id_part()}.png")
    missing = [str(seed) for seed in seeds if seed not in found.get(RETRAIN, {})]
    if missing:
        print(
            f"{RETRAIN} failed with seed {', '.join(missing)}: the gaps to it, and the shares of "
            "its time, are missing; the same command tries again",
            file=sys.stderr,
        )
        sys.exit(1)
    return rows


def _run_all(comparison, trials):
    """Method id -> seed -> figures of all trials; each is told of, with the time that is left."""
    figures = {trial: comparison.finished(trial) for trial in trials}
    to_do, seconds = [trial for trial in trials if figures[trial] is None], {}
    if len(to_do) < len(trials):
        print(f"{len(trials) - len(to_do)} of {len(trials)} trials are finished already")
    while to_do:
        trial = to_do[0]
        print(f"\n{trial.method.id}, seed {trial.seed}", flush=True)
        began = time.perf_counter()
        try:
            figures[trial] = comparison.run(trial)
        except KeyboardInterrupt as interrupt:
            finished = sum(each is not None for each in figures.values())
            kept = f"{finished} of {len(trials)} trials are finished; the same command goes on"
            raise stopped_with(interrupt, kept) from None
        seconds[trial.method] = time.perf_counter() - began
        del to_do[0]
        outcome = "failed" if figures[trial] is None else _outcome(figures[trial])
        left = _time_left(to_do, seconds)
        print(f"  {outcome}; {len(to_do)} trials to go, about {left / 60:.0f} min", flush=True)
    found = {}
    for trial in trials:
        if figures[trial] is not None:
            found.setdefault(trial.method.id, {})[trial.seed] = figures[trial]
    return found


def _outcome(figures):
    return (
        f"unlearn accuracy {figures['unlearn_accuracy_percent']:.2f}%, "
        f"test accuracy {figures['test_accuracy_percent']:.2f}%, {figures['seconds']:.1f} s"
    )


def _time_left(to_do, seconds):
    """A method takes as long as it did with another seed, one not seen yet as long as the mean."""
    usual = sum(seconds.values()) / len(seconds)
    return sum(seconds.get(trial.method, usual) for trial in to_do)


def _mark(row):
    roles = {RETRAIN: "yardstick", NOTHING_DONE: "base"}
    return {
        "name": row.name,
        "role": roles.get(row.name, "method"),
        "forgetting": row.mean("unlearn_accuracy_percent"),
        "utility": row.mean("test_accuracy_percent"),
        "seconds": row.mean("seconds"),
    }


if __name__ == "__main__":
    run_script(main)

"""Attack a model with U-LiRA, which tests for each image whether it is still remembered."""

if __name__ == "__main__":  # before the other imports: Ctrl-C during them prints one line
    from utils.runtime import startup

    startup.end_on_ctrl_c()

import csv
import io
import sys
import time

from arg_parser import (
    attack_flags,
    command_line,
    data_flags,
    device_flags,
    make_parser,
    open_model_arguments,
    request_for_model,
    trained_model_flags,
)
from evaluation.measure import Group
from evaluation.report import explain, figure_table
from unlearn.registry import load_plugins
from utils.io.files import RESULT_FOLDER, check_id, ensure_folder, write_atomically
from utils.io.locks import exclusive_lock
from utils.runtime.devices import describe, pick_device, print_busy_note
from utils.runtime.errors import interrupt_with_hint, run_script
from utils.runtime.startup import import_libraries


def main(argv: list[str] | None = None) -> dict:
    """Return the results of the attack."""
    argv = sys.argv[1:] if argv is None else argv
    groups = (trained_model_flags, data_flags, attack_flags, device_flags)
    args = make_parser(__doc__, *groups).parse_args(argv)
    load_plugins(args.plugin)
    import_libraries()
    from evaluation.results import print_as_json

    ensure_folder(RESULT_FOLDER)
    check_id(args.model_id, "--model_id")
    path = RESULT_FOLDER / f"{args.model_id}_mia"
    with exclusive_lock(path, f"the attack on {args.model_id}"):
        return print_as_json(args.json, _attack, args, argv)


def _attack(args, argv):
    import numpy as np

    from evaluation.audit import MODEL, RETRAIN
    from evaluation.metrics.lira import ULIRA, likelihood_ratios, shadow_memberships
    from evaluation.metrics.swap import SWAP
    from evaluation.results import flatten, heading, results_name, to_json
    from evaluation.retrains.shadow_retrains import serve_as_retrains
    from evaluation.shadows import ShadowSetting, query_margins
    from models.loading import load_model_and_data
    from unlearn.lineage.parents import find_retrains, load_retrains

    device = pick_device(args.device, args.threads)
    print_busy_note(device)
    model, record, dataset = load_model_and_data(device=device, **open_model_arguments(args))
    request = request_for_model(args, record, dataset)
    path = RESULT_FOLDER / f"{results_name(args.model_id, record, request)}_mia"
    # the control needs one Retrain
    retrain_ids = args.retrain_model_id or find_retrains(args.model_id, record, request)[:1]
    retrains = load_retrains(retrain_ids, args.model_id, model, record, request, dataset)
    setting = ShadowSetting.of(dataset, request, model, record, args.non_members, args.seed)
    ensure_folder(setting.folder)

    seen = shadow_memberships(args.shadow_models, len(setting.queries), args.seed)
    print(
        f"{args.model_id} on {dataset.name}: U-LiRA with {len(seen)} shadow models on "
        f"{describe(device)}; {setting.members} forgotten and "
        f"{len(setting.queries) - setting.members} {args.non_members} images"
    )
    print(dataset.describe_placement(record["recipe"]["batch_size"]))
    models = {MODEL: model}
    for retrain, _ in list(retrains.values())[:1]:
        models[RETRAIN] = retrain
    targets = {title: query_margins(setting, each) for title, each in models.items()}
    shadows = _shadows(setting, seen, show=not args.json)
    ratios = {title: likelihood_ratios(each, shadows, seen) for title, each in targets.items()}
    figures = {
        title: ULIRA.compute(each[: setting.members], each[setting.members :], args.seed)
        for title, each in ratios.items()
    }
    figures[MODEL] |= SWAP.compute(np.stack(shadows), seen)
    rows = ULIRA.rows + SWAP.rows
    print(f"\n{explain(Group(ULIRA.group), [ULIRA, SWAP])}\n\n{figure_table(rows, figures)}")
    warnings = ULIRA.warnings(figures.get(RETRAIN, {}))
    for line in warnings:
        print(f"WARNING: {line}")
    write_atomically(path.with_name(f"{path.name}.csv"), _table(setting, ratios[MODEL]))
    results = {
        **heading(args.model_id, record, request, dataset, args.seed, device),
        "retrain_model_ids": list(retrains)[:1],
        "non_members": args.non_members,
        "shadow_models": len(seen),
        "command": command_line(argv, __file__),
        **flatten(figures),
        "warnings": warnings,
    }
    write_atomically(path.with_name(f"{path.name}.json"), to_json(results))
    print(f"results: {path}.json\nimage by image: {path}.csv")
    if serve_as_retrains(setting):
        print(
            "the paired test of main_test_unlearn.py now counts these shadow models as Retrains, "
            f"if it is run with --non_members {args.non_members} --seed {args.seed}"
        )
    return results


def _shadows(setting, seen, show):
    """Return the (shadow models, queries) margins; print each model and the remaining time."""
    from evaluation.shadows import shadow_margins

    margins, seconds = [], []
    for number, half in enumerate(seen):
        began = time.perf_counter()
        try:
            margins.append(shadow_margins(setting, number, half, show))
        except KeyboardInterrupt as interrupt:
            kept = f"{number} of {len(seen)} shadow models are saved; the same command continues"
            raise interrupt_with_hint(interrupt, kept) from None
        seconds.append(time.perf_counter() - began)
        left = max(seconds) * (len(seen) - number - 1)  # existing models took no time
        print(f"shadow model {number + 1} of {len(seen)}, at most {left / 60:.0f} min left")
    return margins


def _table(setting, ratios):
    """Return the bytes of a CSV file: one row per query, the most likely remembered first."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["split", "image", "log_likelihood_ratio"])
    for place in (-ratios).argsort(kind="stable"):
        writer.writerow([*setting.origin_of(int(place)), f"{ratios[place]:.4f}"])
    return text.getvalue().encode()


if __name__ == "__main__":
    run_script(main)

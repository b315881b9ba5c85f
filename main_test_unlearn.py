"""Measure how well an unlearned model forgot and what it kept; base models for comparison."""

if __name__ == "__main__":  # before the other imports: Ctrl-C during them prints one line
    from utils.runtime import startup

    startup.end_on_ctrl_c()

import shlex
import sys
from functools import partial

from arg_parser import (
    command_line,
    data_flags,
    device_flags,
    evaluation_flags,
    load_dataset_arguments,
    make_parser,
    open_model_arguments,
    request_arguments,
    request_for_model,
    trained_model_flags,
)
from evaluation.registry import GROUPS
from evaluation.report import destination_table, group_report
from unlearn.mask_threshold import threshold_to_percent
from utils.io.files import PICTURE_FOLDER, RESULT_FOLDER, ensure_folder, write_atomically
from utils.runtime.devices import pick_device
from utils.runtime.errors import UserError, run_script
from utils.runtime.startup import import_libraries
from utils.text import percent

EXIT_BROKEN = 1  # of --verify
HEADLINES = {
    "Unlearn Accuracy": "unlearn_accuracy_percent",
    "Remaining Accuracy": "remaining_accuracy_percent",
    "Test Accuracy": "test_accuracy_percent",
}


def main(argv: list[str] | None = None) -> dict | None:
    """Return the results, None with --verify."""
    argv = sys.argv[1:] if argv is None else argv
    groups = (trained_model_flags, data_flags, evaluation_flags, device_flags)
    args = make_parser(__doc__, *groups).parse_args(argv)
    import_libraries()
    if args.verify:
        has_data = any(word.partition("=")[0] == "--dataset" for word in argv)
        return _verify(args.model_id, partial(_load_dataset, args) if has_data else None)
    from evaluation.results import print_as_json

    return print_as_json(args.json, _test, args, argv)


def _verify(model_id, load_data):
    """Print each link of the model's chain of origin; exit with code 1 if one is broken."""
    from unlearn.lineage.verification import BREAKS, verify

    states = []
    for finding in verify(model_id, load_data):
        states.append(finding.state)
        print(f"{finding.state:8} {finding.text}", flush=True)
    broken = states.count(BREAKS)
    if broken:
        print(f"\nThe chain of {model_id} is broken: {broken} of {len(states)} links do not hold")
        sys.exit(EXIT_BROKEN)
    print(f"\nThe chain of {model_id} holds")


def _load_dataset(args, input_size):
    from utils.data.loading import load_dataset

    source = load_dataset_arguments(args) | {"input_size": args.input_size or input_size}
    return load_dataset(**source)


def _test(args, argv):
    from evaluation.audit import MODEL, Audit
    from evaluation.pictures import layer_saliency
    from evaluation.results import (
        flatten,
        heading,
        input_digests,
        results_name,
        to_json,
        with_earlier,
    )
    from models.loading import load_model_and_data
    from unlearn.lineage.parents import load_parent, load_retrains, load_seed_models, seed_of
    from utils.io.csv_files import read_cost_matrix, read_groups
    from utils.plots.saving import save_picture

    ensure_folder(RESULT_FOLDER)
    device = pick_device(args.device, args.threads)
    model, record, dataset = load_model_and_data(device=device, **open_model_arguments(args))
    request = request_for_model(args, record, dataset)
    file_name = results_name(args.model_id, record, request)
    if args.cost_matrix is not None and dataset.is_multi_label:
        raise UserError(
            f"--cost_matrix: {dataset.name} is multi-label: an image has several findings, and "
            "none is mistaken for another; leave it out"
        )
    costs = groups = None
    if args.cost_matrix is not None:
        costs = read_cost_matrix(args.cost_matrix, dataset.class_names)
    if args.group_file is not None:
        groups = read_groups(args.group_file, len(dataset.test))
    base, base_note = load_parent(record, model.spec, device)
    retrains = load_retrains(args.retrain_model_id, args.model_id, model, record, request, dataset)
    peers = load_seed_models(args.seed_model_id, model, record, request, dataset)
    audit = Audit(
        model,
        dataset,
        request,
        base=base,
        retrains=[retrain for retrain, _ in retrains.values()],
        peers=[peer for peer, _ in peers.values()],
        non_members=args.non_members,
        costs=costs,
        groups=groups,
        record=record,
        retrain_records=[other for _, other in retrains.values()],
        seed=args.seed,
        batch_size=args.batch_size,
    )
    saliency_map, no_saliency = _load_saliency_map(args, record, base, dataset, request)
    mask = _describe_mask(record, saliency_map)
    audit.warn(_warnings(record, mask, model.spec, retrains, dataset))
    name = request.description
    print(f"{args.model_id} on {dataset.name}, {name}")
    print(f"{dataset.describe_placement(args.batch_size)}\n")
    headlines = audit.add(MODEL).figures
    for label, key in HEADLINES.items():
        value = headlines[key].value
        print(f"{label}: {percent(value if value is None else value / 100)}", flush=True)
    audit.add_references()
    _print_references(args, record, base_note, retrains, request)
    patient_groups = [] if groups is None else sorted(set(map(str, groups)))
    for group in GROUPS.values():
        if group.name in args.measures:
            audit.measure(group.name)
            _print_section(group_report(group, audit, dataset, patient_groups))
    _print_section(destination_table(audit.outputs, dataset, request))
    for line in audit.warnings:
        print(f"WARNING: {line}")
    results = {
        **heading(args.model_id, record, request, dataset, args.seed, device),
        **mask,
        "notes": [base_note] if base_note else [],
        "retrain_model_ids": list(retrains),
        "seed_model_ids": args.seed_model_id,
        **input_digests(
            costs, groups, *([other for _, other in part.values()] for part in (peers, retrains))
        ),
        "non_members": args.non_members,
        "command": command_line(argv, __file__),
        **flatten(audit.figures),
        "warnings": audit.warnings,
        "warning_sources": audit.warning_sources,
    }
    path = RESULT_FOLDER / f"{file_name}.json"
    results = with_earlier(path, results, audit.measured)
    write_atomically(path, to_json(results))
    print(f"results: {path}")
    seeds = [seed_of(other) for _, other in retrains.values()]
    _save_before_and_after(args, audit, seeds, dataset, request, file_name)
    if no_saliency:
        print(f"no picture of the saliency: {no_saliency}")
    elif saliency_map:
        picture = layer_saliency(saliency_map, f"{args.model_id}\n{name}", mask["mask_thresh"])
        save_picture(picture, PICTURE_FOLDER / args.model_id / "saliency.png")
    return results


def _warnings(record, mask, spec, retrains, dataset):
    """Return warnings about the model and its figures that are known before any is measured."""
    from unlearn.lineage.parents import describe_recipe_differences
    from unlearn.saliency import full_mask_warning

    lines = []
    warning = full_mask_warning(mask.get("mask_thresh"), mask.get("mask_full_threshold"), spec)
    if warning:
        lines.append(warning)
    if record.get("train_digest", dataset.train_digest()) != dataset.train_digest():
        lines.append(
            "the model was trained on other images: figures of forgetting, attacks and relearning "
            "are of images that it never saw"
        )
    for each, (_, other) in list(retrains.items())[:1]:
        differing = describe_recipe_differences(other, record)
        if differing:
            lines.append(f"Retrain {each} differs from the base model's recipe: {differing}")
    return lines


def _save_before_and_after(args, audit, seeds, dataset, request, file_name):
    """Save the pictures of the model next to its base model and Retrains of these seeds."""
    from evaluation.pictures import before_and_after, distances_from_retrain, memory_of_images
    from utils.plots.saving import save_picture

    ending = file_name.removeprefix(args.model_id)
    title = f"{args.model_id}\n{request.description}"
    pictures = before_and_after(audit.outputs, dataset, request, title, args.seed)
    pictures["distance"] = distances_from_retrain(audit, seeds, title)
    pictures["memory"] = memory_of_images(audit, seeds, title)
    for name, picture in pictures.items():
        if picture:
            save_picture(picture, PICTURE_FOLDER / args.model_id / f"{name}{ending}.png")


def _load_saliency_map(args, record, base, dataset, request):
    """Return (SaliencyMap that the model was unlearned with or None, why it cannot be read)."""
    from unlearn.saliency import load_saliency_map, saliency_origin, saliency_path, with_zeros

    threshold = record.get("settings", {}).get("mask_thresh")
    if threshold is None or base is None:
        return None, None
    path = saliency_path(record["parent_id"], request)
    command = f"python generate_mask.py --model_id {record['parent_id']} --dataset {args.dataset}"
    origin = saliency_origin(base, dataset, record["parent_digest"])
    try:
        threshold_to_percent(threshold)
        saliency_map = load_saliency_map(path, base, request, origin, command)
    except UserError as error:  # only a picture needs it
        return None, error
    forget_set, _ = request.split(dataset, "train")
    return with_zeros(saliency_map, base, forget_set, request, args.batch_size), None


def _describe_mask(record, saliency_map):
    """Return what the results hold of the mask that the model was unlearned with, if with one."""
    from models.records import MASK_FRACTIONS

    threshold = record.get("settings", {}).get("mask_thresh")
    if threshold is None:
        return {}
    known = record
    if "mask_full_threshold" not in record and saliency_map:  # a model of an earlier version
        known = saliency_map.mask(threshold).record()
    found = {key: known[key] for key in MASK_FRACTIONS if key in known}
    mask = {"mask_thresh": threshold} | found
    if "mask_full_threshold" in mask:
        mask["mask_is_all_gradients"] = threshold >= mask["mask_full_threshold"]
    return mask


def _print_references(args, record, base_note, retrains, request):
    from unlearn.lineage.parents import RETRAIN, seed_of

    print()
    if base_note:
        print(f"note: {base_note}")
    elif "parent_id" in record:
        print(f"base model: {record['parent_id']}")
    seeds = [seed_of(other) for _, other in retrains.values()]
    is_retrain = record.get("method") == RETRAIN
    used = [*seeds, seed_of(record)] if is_retrain else seeds
    command = _retrain_command(args, record, request, used)
    if retrains:
        print(f"Retrain: {next(iter(retrains))}")
    elif not is_retrain:
        print(f"Retrain: none available; create one with {command}")
    if len(retrains) > 1:
        print(f"Retrains of other seeds: {', '.join(map(str, seeds[1:]))}")
    elif retrains and "distance" in args.measures and args.retrain_model_id is None:
        print(f"no Retrain of another seed is available; create one with {command}")


def _retrain_command(args, record, request, used):
    """Return the command that creates a Retrain by the base model's recipe. used: its seeds."""
    base_seed = record.get("recipe", {}).get("seed", 1)
    seed = next(seed for seed in (base_seed, *range(1, len(used) + 2)) if seed not in used)
    flags = request_arguments(args)
    if request.classes:
        flags = ["--class_to_forget", *map(str, request.classes)]
    words = ["--model_id", record.get("parent_id", args.model_id), "--dataset", args.dataset]
    words += ["--unlearn", "Retrain", *flags, "--seed", str(seed)]
    command = shlex.join(["python", "main_unlearn.py", *words])
    return command if flags else f"{command} and the flags of the request"


def _print_section(text):
    if text:
        print(f"\n{text}", flush=True)


if __name__ == "__main__":
    run_script(main)

"""Compute the weight saliency of a model for each class, from which every mask is taken."""

if __name__ == "__main__":  # before the other imports: Ctrl-C during them prints one line
    from utils.runtime import startup

    startup.end_on_ctrl_c()

import time

from arg_parser import (
    data_flags,
    device_flags,
    make_parser,
    open_model_arguments,
    overwrite_flag,
    prediction_flags,
    read_request,
    request_flags,
    resume_flag,
    trained_model_flags,
)
from utils.io.files import PICTURE_FOLDER, check_overwrite, ensure_folder
from utils.io.locks import exclusive_lock
from utils.runtime.devices import pick_device
from utils.runtime.errors import UserError, interrupt_with_hint, run_script
from utils.runtime.startup import import_libraries

PICTURED_THRESHOLD = 0.5  # as in the walkthrough


def main(argv: list[str] | None = None) -> None:
    """Make the mask of the request, or of each class."""
    groups = (trained_model_flags, data_flags, prediction_flags, device_flags)
    parser = make_parser(__doc__, *groups, resume_flag, overwrite_flag)
    request_flags(parser, required=False, note="; by default each class by itself")
    args = parser.parse_args(argv)
    import_libraries()
    from models.loading import load_model_and_data
    from unlearn.saliency import matches_origin, saliency_origin, saliency_path

    model, _, dataset = load_model_and_data(
        device=pick_device(args.device, args.threads), **open_model_arguments(args)
    )
    request = read_request(args, dataset)
    requests = [request] if request else _every_class(dataset)

    print(dataset.describe_placement(args.batch_size))
    origin = saliency_origin(model, dataset)
    paths = {request: saliency_path(args.model_id, request) for request in requests}
    folder = next(iter(paths.values())).parent
    ensure_folder(folder)
    ensure_folder(PICTURE_FOLDER / args.model_id)
    with exclusive_lock(folder, folder):
        # True: a mask of this request and origin, False: another, None: none, or damaged
        existing = {
            request: matches_origin(path, request, origin) for request, path in paths.items()
        }
        others = [path for request, path in paths.items() if existing[request] is False]
        check_overwrite(others, args.overwrite)
        maps = []
        for number, (request, path) in enumerate(paths.items()):
            try:
                if existing[request] and (args.resume or not args.overwrite):
                    found = _keep_mask(args, model, dataset, request, origin, path)
                else:
                    only = len(requests) == 1
                    found = _make_mask(args, model, dataset, request, origin, path, only)
                maps += [found] if found else []
            except KeyboardInterrupt as interrupt:
                kept = f"{number} of {len(paths)} masks are saved; {_how_to_continue(args)}"
                raise interrupt_with_hint(interrupt, kept if number else None) from None
    _warn_of_full_masks(maps, model.spec)


def _how_to_continue(args):
    if args.overwrite and not args.resume:
        return "the same command starts again; without --overwrite it keeps existing masks"
    return "the same command continues"


def _keep_mask(args, model, dataset, request, origin, path):
    """Keep an existing mask, and save its picture if it is missing; return its SaliencyMap.

    Computed with another batch size or device, a mask may differ from the one that existing models
    were unlearned with.
    """
    from unlearn.saliency import load_saliency_map, with_zeros

    print(f"{request.description}: {path} exists already and is kept")
    forget_set, _ = request.split(dataset, "train")
    saliency_map = load_saliency_map(path, model, request, origin, "generate_mask.py")
    saliency_map = with_zeros(saliency_map, model, forget_set, request, args.batch_size)
    print(f"  {_describe_zeros(saliency_map)}")
    if not _picture_path(args, path).exists():
        _save_picture(args, request, path, saliency_map)
    return saliency_map


def _make_mask(args, model, dataset, request, origin, path, only):
    """Compute and save one mask; return its SaliencyMap, None without a training image.

    only: whether it is the only one, so that errors end the run.
    """
    from unlearn.saliency import compute_saliency_map, gradient_saliency, save_saliency_map

    name = request.description
    forget_set, _ = request.split(dataset, "train")
    if len(forget_set) == 0:
        if only:
            raise UserError(f"{name} has no training image, so no mask can be computed")
        print(f"{name}: no training image, so no mask")
        return None
    began = time.perf_counter()
    saliency = gradient_saliency(model, forget_set, request, args.batch_size)
    saliency_map = compute_saliency_map(saliency)
    save_saliency_map(path, saliency_map, request, origin)
    seconds, megabytes = time.perf_counter() - began, path.stat().st_size / 1e6
    print(f"{name}: {path}, {megabytes:.1f} MB, {seconds:.1f} s")
    print(f"  {_describe_zeros(saliency_map)}")
    _save_picture(args, request, path, saliency_map)
    return saliency_map


def _describe_zeros(saliency_map):
    zeros, count = saliency_map.zero_count(), saliency_map.weight_count()
    return (
        f"saliency exactly 0: {zeros:,} of {count:,} weights ({100 * zeros / count:.2f}%); from "
        f"--mask_thresh {saliency_map.full_threshold():g} on, the mask contains all others"
    )


def _warn_of_full_masks(maps, spec):
    """Warn if masks at the usual threshold restrict nothing; the threshold must suit all masks."""
    from unlearn.saliency import full_mask_warning

    full = [each.full_threshold() for each in maps if each.full_threshold() <= PICTURED_THRESHOLD]
    warning = full_mask_warning(PICTURED_THRESHOLD, min(full, default=None), spec)
    if warning:
        which = f"{len(full)} of {len(maps)} masks: " if len(maps) > 1 else ""
        print(f"WARNING: {which}{warning}")


def _save_picture(args, request, path, saliency_map):
    from evaluation.pictures import layer_saliency
    from utils.plots.saving import save_picture

    title = f"{args.model_id}\n{request.description}"
    save_picture(layer_saliency(saliency_map, title, PICTURED_THRESHOLD), _picture_path(args, path))


def _picture_path(args, path):
    return PICTURE_FOLDER / args.model_id / f"{path.stem}_saliency.png"


def _every_class(dataset):
    from unlearn.request.request import ForgetRequest

    return [ForgetRequest.from_classes([str(n)], dataset) for n in range(dataset.num_classes)]


if __name__ == "__main__":
    run_script(main)

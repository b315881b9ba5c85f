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
        for number, (request, path) in enumerate(paths.items()):
            try:
                if existing[request] and (args.resume or not args.overwrite):
                    _keep_mask(args, model, request, origin, path)
                else:
                    _make_mask(args, model, dataset, request, origin, path, len(requests) == 1)
            except KeyboardInterrupt as interrupt:
                kept = f"{number} of {len(paths)} masks are saved; {_how_to_continue(args)}"
                raise interrupt_with_hint(interrupt, kept if number else None) from None


def _how_to_continue(args):
    if args.overwrite and not args.resume:
        return "the same command starts again; without --overwrite it keeps existing masks"
    return "the same command continues"


def _keep_mask(args, model, request, origin, path):
    """Keep an existing mask, and save its picture if it is missing.

    Computed with another batch size or device, a mask may differ from the one that existing models
    were unlearned with.
    """
    from unlearn.saliency import load_percentiles

    print(f"{request.description}: {path} exists already and is kept")
    if not _picture_path(args, path).exists():
        percentiles = load_percentiles(path, model, request, origin, "generate_mask.py")
        _save_picture(args, request, path, percentiles)


def _make_mask(args, model, dataset, request, origin, path, only):
    """Compute and save one mask. only: whether it is the only one, so that errors end the run."""
    from unlearn.saliency import compute_percentiles, gradient_saliency, save_percentiles

    name = request.description
    forget_set, _ = request.split(dataset, "train")
    if len(forget_set) == 0:
        if only:
            raise UserError(f"{name} has no training image, so no mask can be computed")
        print(f"{name}: no training image, so no mask")
        return
    began = time.perf_counter()
    saliency = gradient_saliency(model, forget_set, request, args.batch_size)
    percentiles = compute_percentiles(saliency)
    save_percentiles(path, percentiles, request, origin)
    seconds, megabytes = time.perf_counter() - began, path.stat().st_size / 1e6
    print(f"{name}: {path}, {megabytes:.1f} MB, {seconds:.1f} s")
    _save_picture(args, request, path, percentiles)


def _save_picture(args, request, path, percentiles):
    from evaluation.pictures import layer_saliency
    from utils.plots.saving import save_picture

    title = f"{args.model_id}\n{request.description}"
    save_picture(layer_saliency(percentiles, title, PICTURED_THRESHOLD), _picture_path(args, path))


def _picture_path(args, path):
    return PICTURE_FOLDER / args.model_id / f"{path.stem}_saliency.png"


def _every_class(dataset):
    from unlearn.request.request import ForgetRequest

    return [ForgetRequest.from_classes([str(n)], dataset) for n in range(dataset.num_classes)]


if __name__ == "__main__":
    run_script(main)

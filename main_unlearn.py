"""Make a trained model forget: a base model, a method and a request in, an unlearned model out."""

if __name__ == "__main__":  # before the other imports: Ctrl-C during them prints one line
    from utils.runtime import startup

    startup.end_on_ctrl_c()

import shlex
import sys

from arg_parser import (
    command_line,
    data_flags,
    device_flags,
    make_parser,
    open_model_arguments,
    overwrite_flag,
    read_request,
    request_arguments,
    resume_flag,
    trained_model_flags,
    unlearning_flags,
    unlearning_settings,
)
from unlearn.engine.method import MAX_BATCHES_PER_STEP
from unlearn.mask_threshold import threshold_to_percent
from unlearn.registry import find_method, load_plugins
from utils.io.files import MODEL_FOLDER, ensure_folder
from utils.io.locks import exclusive_lock
from utils.runtime.devices import describe, pick_device, print_busy_note
from utils.runtime.errors import UserError, interrupt_with_hint, run_script
from utils.runtime.startup import import_libraries


def main(argv: list[str] | None = None) -> str:
    """Return the id of the unlearned model."""
    argv = sys.argv[1:] if argv is None else argv
    groups = (trained_model_flags, data_flags, unlearning_flags, device_flags)
    groups += (resume_flag, overwrite_flag)
    args = make_parser(__doc__, *groups).parse_args(argv)
    load_plugins(args.plugin)
    method = find_method(args.unlearn)
    if method.uses_mask:
        threshold_to_percent(args.mask_thresh)
    import_libraries()
    from models.checkpoint import model_digest, model_path
    from models.loading import load_model_and_data
    from unlearn.job import UnlearnJob

    ensure_folder(MODEL_FOLDER)
    device = pick_device(args.device, args.threads)
    print_busy_note(device)
    model, record, dataset = load_model_and_data(device=device, **open_model_arguments(args))
    if record.get("kind") == "unlearned":
        raise UserError(f"{args.model_id} is an unlearned model already: give its base model's id")
    request = read_request(args, dataset)
    request.split_for_unlearning(dataset)  # raises UserError if one of the sets is empty
    job = UnlearnJob.create(
        args.model_id,
        record,
        method,
        request,
        dataset,
        settings=unlearning_settings(args),
        options=args.unlearn_options,
        mask_thresh=args.mask_thresh,
    )
    path = model_path(job.model_id)
    with exclusive_lock(path, path):
        new_record = job.make_record(record, model_digest(model, record), dataset)
        # an interrupted --overwrite of this very model has saved epochs to resume from
        finished = job.find_finished(new_record) and not job.is_interrupted(new_record)
        if args.resume and finished:
            print(f"model: {path}, finished already\nmodel_id: {job.model_id}")
        else:
            _unlearn(args, argv, job, new_record, model, dataset)
    return job.model_id


def _unlearn(args, argv, job, record, model, dataset):
    from models.checkpoint import weights_digest

    method, request, device = job.method, job.config.request, dataset.train.device
    forget_set, retain_set = request.split_for_unlearning(dataset)
    mask = None
    if method.uses_mask:
        mask = _load_mask(args, model, dataset, forget_set, request, record["parent_digest"])
    progress = job.open_progress(record, mask, resume=args.resume, overwrite=args.overwrite)
    print(
        f"{method.name}: {args.model_id} forgets {request.description}, {len(forget_set):,} of "
        f"{len(dataset.train):,} images; {job.describe_schedule()} on {describe(device)}"
    )
    print(dataset.describe_placement(MAX_BATCHES_PER_STEP * job.config.recipe.batch_size))
    if progress.saved_epochs:
        print(f"resuming after epoch {progress.saved_epochs}")
    try:
        model, seconds = job.run(model, forget_set, retain_set, mask, progress)
        path = job.save(model, record, seconds, device, command_line(argv, __file__), mask)
    except KeyboardInterrupt as interrupt:
        raise interrupt_with_hint(interrupt, progress.interrupt_hint()) from None
    progress.delete()
    if weights_digest(model.network.state_dict()) == record["parent_digest"]:
        print(f"note: {method.id} has changed nothing, the weights are those of {args.model_id}")
    print(f"unlearned in {seconds:.1f} s\nmodel: {path}\nmodel_id: {job.model_id}")


def _load_mask(args, model, dataset, forget_set, request, base_digest):
    """Load and describe the mask; warn of one that restricts nothing."""
    from unlearn.saliency import (
        full_mask_warning,
        load_saliency_map,
        saliency_origin,
        saliency_path,
        with_zeros,
    )

    path = saliency_path(args.model_id, request)
    flags = ["--model_id", args.model_id, "--dataset", args.dataset, *request_arguments(args)]
    command = shlex.join(["python", "generate_mask.py", *flags])
    origin = saliency_origin(model, dataset, base_digest)
    saliency_map = load_saliency_map(path, model, request, origin, command)
    mask = with_zeros(saliency_map, model, forget_set, request).mask(args.mask_thresh)
    print(f"mask {args.mask_thresh:g}: {100 * mask.fraction():.2f}% of the weights may change")
    warning = full_mask_warning(mask.threshold, mask.full_threshold, model.spec)
    if warning:
        print(f"WARNING: {warning}")
    return mask


if __name__ == "__main__":
    run_script(main)

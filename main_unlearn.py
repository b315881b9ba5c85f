"""Make a trained model forget: base model, method and forget request in, unlearned model out."""

import shlex
import sys
import time
from dataclasses import replace

from arg_parser import (
    asked_request,
    command_line,
    data_flags,
    device_flags,
    make_parser,
    model_and_data,
    trained_model_flags,
    typed_request,
    unlearning_flags,
)
from models.checkpoint import digest_of, save_model
from models.opening import describe_data, open_model_and_data
from unlearn.ids import unlearned_model_id
from unlearn.methods import default_config, find_method
from unlearn.saliency import (
    load_percents,
    mask_at,
    saliency_origin,
    saliency_path,
    to_percent,
)
from utils.devices import describe, pick_device
from utils.errors import UserError, run_script
from utils.files import MODEL_FOLDER, check_id, ensure_folder


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    groups = (trained_model_flags, data_flags, unlearning_flags, device_flags)
    args = make_parser(__doc__, *groups).parse_args(argv)
    method = find_method(args.unlearn)
    if method.uses_mask:
        to_percent(args.mask_thresh)
    ensure_folder(MODEL_FOLDER)
    device = pick_device(args.device)
    model, record, dataset = open_model_and_data(device=device, **model_and_data(args))
    if record.get("kind") == "unlearned":
        raise UserError(f"{args.model_id} is an unlearned model already: give its base model's id")
    request = asked_request(args, dataset)
    forget_set, retain_set = request.split_for_unlearning(dataset)

    chosen = {
        "epochs": args.unlearn_epochs,
        "lr": args.unlearn_lr,
        "batch_size": args.unlearn_batch_size,
        "optimizer": args.optimizer,
        "weight_decay": args.weight_decay,
        "seed": args.seed,
    }
    defaults = default_config(method, request, record)
    config = replace(defaults, **{key: value for key, value in chosen.items() if value is not None})
    mask_thresh = args.mask_thresh if method.uses_mask else None
    model_id = _model_id(args.model_id, method, config, defaults, mask_thresh)
    base_digest = digest_of(model, record)
    if method.uses_mask:
        mask = _load_mask(args, model, dataset, request, base_digest)
        config = replace(config, mask=mask)
        print(f"mask {args.mask_thresh:g}: {100 * mask.share():.2f}% of the weights may change")
    config = replace(config, retain_val=request.split(dataset, "val")[1])

    print(
        f"{method.name}: {args.model_id} forgets {request.words}, {len(forget_set):,} of "
        f"{len(dataset.train):,} images; {config.epochs} epochs at rate {config.lr:g} "
        f"on {describe(device)}"
    )
    began = time.perf_counter()
    model = method.run(model, forget_set, retain_set, config)
    seconds = time.perf_counter() - began

    settings = {key: getattr(config, key) for key in chosen} | {"mask_thresh": mask_thresh}
    path = save_model(
        model_id,
        model,
        {
            **describe_data(dataset),
            **{key: record[key] for key in ("recipe", "selection") if key in record},
            "kind": "unlearned",
            "parent_id": args.model_id,
            "parent_digest": base_digest,
            "method": method.id,
            "forget_request": request.record(),
            "forget_words": request.words,
            "settings": settings,
            "seconds": seconds,
            "device": describe(device),
            "command": command_line(argv, __file__),
        },
    )
    print(f"unlearned in {seconds:.1f} s\nmodel: {path}\nmodel_id: {model_id}")
    return model_id


def _model_id(base_id, method, config, defaults, mask_thresh):
    """The id for these settings, checked before any work is done."""
    others = [
        (short, getattr(config, key))
        for short, key in (
            ("batch", "batch_size"),
            ("optim", "optimizer"),
            ("decay", "weight_decay"),
            ("seed", "seed"),
        )
        if getattr(config, key) != getattr(defaults, key)
    ]
    model_id = unlearned_model_id(
        base_id,
        config.request.id_part(),
        method.id,
        config.epochs,
        config.lr,
        mask_thresh,
        others,
    )
    return check_id(model_id, "the new model's id")


def _load_mask(args, model, dataset, request, base_digest):
    path = saliency_path(args.model_id, request)
    asked = shlex.join(typed_request(args))
    command = f"python generate_mask.py --model_id {args.model_id} --dataset {args.dataset} {asked}"
    origin = saliency_origin(model, dataset, base_digest)
    return mask_at(load_percents(path, model, request, origin, command), args.mask_thresh)


if __name__ == "__main__":
    run_script(main)

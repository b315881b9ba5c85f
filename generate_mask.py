"""Weight saliency of a model: for each class, which weights hold it, and every mask from that."""

import time

from arg_parser import (
    asked_request,
    data_flags,
    device_flags,
    make_parser,
    model_and_data,
    prediction_flags,
    request_flags,
    trained_model_flags,
)
from evaluation.pictures import layer_saliency
from models.opening import open_model_and_data
from unlearn.request import ForgetRequest
from unlearn.saliency import (
    entry_percents,
    gradient_saliency,
    saliency_origin,
    saliency_path,
    save_percents,
)
from utils.devices import pick_device
from utils.errors import UserError, run_script
from utils.files import PICTURE_FOLDER, ensure_folder
from utils.saving import save_picture

PICTURED_THRESHOLD = 0.5  # the walkthrough's


def main(argv=None):
    groups = (trained_model_flags, data_flags, prediction_flags, device_flags)
    parser = make_parser(__doc__, *groups)
    request_flags(parser, required=False, note="; by default every class, each by itself")
    args = parser.parse_args(argv)
    model, _, dataset = open_model_and_data(
        device=pick_device(args.device, args.threads), **model_and_data(args)
    )
    asked = asked_request(args, dataset)
    requests = [asked] if asked else _every_class(dataset)

    print(dataset.describe_place(args.batch_size))
    origin = saliency_origin(model, dataset)
    for request in requests:
        name = request.words
        forget_set, _ = request.split(dataset, "train")
        if len(forget_set) == 0:
            if len(requests) == 1:
                raise UserError(f"{name} has no training image to make a mask of")
            print(f"{name}: no training image, so no mask")
            continue
        began = time.perf_counter()
        path = saliency_path(args.model_id, request)
        ensure_folder(path.parent)
        saliency = gradient_saliency(model, forget_set, request, args.batch_size)
        percents = entry_percents(saliency)
        save_percents(path, percents, request, origin)
        seconds, megabytes = time.perf_counter() - began, path.stat().st_size / 1e6
        print(f"{name}: {path}, {megabytes:.1f} MB, {seconds:.1f} s")
        picture = layer_saliency(percents, f"{args.model_id}\n{name}", PICTURED_THRESHOLD)
        save_picture(picture, PICTURE_FOLDER / args.model_id / f"{path.stem}_saliency.png")


def _every_class(dataset):
    return [ForgetRequest.of_classes([str(n)], dataset) for n in range(dataset.num_classes)]


if __name__ == "__main__":
    run_script(main)

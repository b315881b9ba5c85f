"""How well a model has forgotten a class and what it kept; for unlearned and base models."""

from arg_parser import (
    class_flag,
    data_flags,
    device_flags,
    make_parser,
    model_and_data,
    prediction_flags,
    trained_model_flags,
)
from models.checkpoint import load_model, model_path
from models.opening import open_model_and_data
from unlearn.evaluation import destinations, forgetting_figures
from unlearn.ids import parse_unlearned_model_id
from unlearn.request import ForgetRequest
from utils.devices import pick_device
from utils.errors import UserError, run_script
from utils.files import PICTURE_FOLDER
from utils.plots import forgotten_destinations
from utils.saving import save_picture
from utils.tables import format_table, percent


def main(argv=None):
    groups = (trained_model_flags, data_flags, prediction_flags, device_flags)
    parser = make_parser(__doc__, *groups)
    class_flag(parser, required=False, note="; by default the one that the model has forgotten")
    args = parser.parse_args(argv)
    model, record, dataset = open_model_and_data(
        device=pick_device(args.device), **model_and_data(args)
    )
    request = _request(args, record, dataset)
    name = f"class {dataset.describe_class(request.class_index)}"
    figures = forgetting_figures(model, dataset, request, args.batch_size)

    print(f"{args.model_id} on {dataset.name}, {name}\n")
    print(f"Unlearn Accuracy: {percent(figures.unlearn_accuracy)}")
    print(f"Remaining Accuracy: {percent(figures.remaining_accuracy)}")
    print(f"Test Accuracy: {percent(figures.test_accuracy)}")
    print("\nof test images that the model never saw:")
    print(f"Unlearn Accuracy (test images): {percent(figures.unlearn_accuracy_test)}")
    if dataset.is_multi_label:
        auc = figures.finding_auc_test
        print(f"AUC of the finding: {'undefined' if auc is None else f'{auc:.5f}'}")
    if figures.destinations:
        print(f"\ntraining images of {name} are now taken for:")
        rows = [
            (number, other, percent(share))
            for number, (other, share) in enumerate(
                zip(dataset.class_names, figures.destinations, strict=True)
            )
        ]
        print(format_table(["class", "name", "share"], rows))
        picture = forgotten_destinations(
            _percents(_destinations_before(record, dataset, request, args.batch_size)),
            _percents(figures.destinations),
            dataset.class_names,
            request.class_index,
            f"{args.model_id}\ntraining images of {name}",
        )
        file_name = f"forgotten_{request.id_part()}.png"
        save_picture(picture, PICTURE_FOLDER / args.model_id / file_name)
    return figures


def _request(args, record, dataset):
    """The class asked for; else the one that the record, or the id, says is forgotten."""
    if args.class_to_forget is not None:
        return ForgetRequest.parse(args.class_to_forget, dataset)
    if "forget_request" in record:
        return ForgetRequest.from_record(record["forget_request"])
    parts = parse_unlearned_model_id(args.model_id)
    if parts is None:
        raise UserError(
            f"{args.model_id} has forgotten nothing: say which --class_to_forget to test"
        )
    return ForgetRequest.parse(parts["forgotten"], dataset)


def _destinations_before(record, dataset, request, batch_size):
    """Where the base model of an unlearned one takes the images, None if it is not at hand."""
    parent_id = record.get("parent_id")
    if parent_id is None or not model_path(parent_id).exists():
        return None
    base, base_record = load_model(parent_id, dataset.train.images.device)
    if base_record.get("weights_digest") != record["parent_digest"]:
        print(f"note: {parent_id} is not the model any more that this one came from")
        return None
    return destinations(base, request.split(dataset.train)[0], batch_size)


def _percents(shares):
    return None if shares is None else [100 * share for share in shares]


if __name__ == "__main__":
    run_script(main)

"""`main_test_unlearn.py --verify`: which checks of a chain hold, and which ones break it."""

import json
from pathlib import Path

import pytest
import torch

from models.checkpoint import (
    load_model,
    load_tensors,
    read_record,
    save_model,
    save_tensors,
    weights_digest,
)
from tests.helpers.environment import BASE, FORGOTTEN, UNLEARN_ONCE
from tests.helpers.small_net import SMALL_ARCH
from unlearn.request.request import ForgetRequest
from unlearn.saliency import SaliencyMap, save_saliency_map

MASK = Path("SaliencyMaps") / BASE / "class_3.pt"
RETRAIN = ("--unlearn", "Retrain", "--class_to_forget", "3")


def broken_lines(run_here, *flags, model_id=FORGOTTEN):
    """Return the printed lines that start with BREAKS; check the exit code, 1 if there are any."""
    result = run_here("main_test_unlearn", "--model_id", model_id, "--verify", *flags)
    lines = [line for line in result.stdout.splitlines() if line.startswith("BREAKS")]
    assert (result.returncode, result.stderr) == (1 if lines else 0, ""), result
    assert f"The chain of {model_id} {'is broken' if lines else 'holds'}" in result.stdout
    return lines


def resave(model_id, change):
    """Change a model and save it again, so that its own digests are valid."""
    model, record = load_model(model_id)
    change(model, record)
    save_model(model_id, model, record)


def shift_weights(model, record):
    with torch.no_grad():
        model.network.fc.weight += 1


def test_a_chain_that_holds(trained, run_here, data_files):
    assert broken_lines(run_here) == []
    assert broken_lines(run_here, "--dataset", data_files["grey"]) == []
    assert broken_lines(run_here, model_id=BASE) == []


def test_printed_digests_are_those_of_the_tensors(trained, run_here):
    lines = run_here("main_test_unlearn", "--model_id", FORGOTTEN, "--verify").stdout
    for model_id in (BASE, FORGOTTEN):
        digest = weights_digest(load_model(model_id)[0].network.state_dict())
        assert f"{model_id}: weights and record are as saved, sha256 {digest[:12]}\n" in lines
    percents = torch.load(MASK, weights_only=True)["percents"]
    assert f"mask {MASK}: has the digest in the record, sha256 " in lines
    assert weights_digest(percents)[:12] in lines
    assert f"unknown  {FORGOTTEN}: was not compared with a Retrain" in lines


def test_other_data_break_the_chain(trained, run_here, data_files):
    for_each = broken_lines(run_here, "--dataset", data_files["other"])
    assert [line.split(":")[0] for line in for_each] == [
        f"BREAKS   data of {FORGOTTEN}",
        f"BREAKS   data of {BASE}",
    ]


def test_other_weights_of_the_parent_break_the_chain(trained, run_here):
    resave(BASE, shift_weights)
    found = broken_lines(run_here)
    assert f"parent {BASE} of {FORGOTTEN}: has the digest" in found[0]
    assert "outside it are bitwise identical to the parent's: no" in found[-1]


def test_a_missing_or_damaged_parent_breaks_the_chain(trained, run_here):
    path = Path(f"model_weights/{BASE}.pt")
    whole = path.read_bytes()
    path.write_bytes(whole[:5000])
    assert "is cut short, damaged" in broken_lines(run_here)[0]
    path.unlink()
    assert f"parent {BASE}: it is not in model_weights/" in broken_lines(run_here)[0]


def test_a_changed_weight_outside_the_mask_breaks_the_chain(trained, run_here):
    content = torch.load(MASK, weights_only=True)
    name, percents = max(content["percents"].items(), key=lambda item: int(item[1].max()))
    outside = int((percents.flatten() > 50).nonzero()[0])

    def change_one_weight(model, record):
        with torch.no_grad():
            dict(model.named_parameters())[name].view(-1)[outside] += 1

    resave(FORGOTTEN, change_one_weight)
    (line,) = broken_lines(run_here)
    assert line.endswith("outside it are bitwise identical to the parent's: no, 1 are not")


def test_a_changed_or_missing_mask_breaks_the_chain(trained, run_here):
    content = torch.load(MASK, weights_only=True)
    next(iter(content["percents"].values())).view(-1)[0] ^= 1
    torch.save(content, MASK)
    assert "is damaged or altered: create it again" in broken_lines(run_here)[0]
    content["percents_digest"] = weights_digest(content["percents"])
    torch.save(content, MASK)
    assert "has the digest in the record" in broken_lines(run_here)[0]
    MASK.unlink()
    assert "there is no mask" in broken_lines(run_here)[0]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"parent_digest": "0" * 64}, "has the digest in the record, sha256 000000000000"),
        ({"train_digest": "0" * 64}, "was trained on the same images: no"),
        (
            {"method": "GA_with_SalUn"},
            "its id agrees with parent, request and method of the record: no",
        ),
        (
            {"forget_request": {"class_to_forget": 2}},
            "its id agrees with parent, request and method",
        ),
        ({"parent_id": FORGOTTEN}, "it is one of its own ancestors"),
    ],
)
def test_a_false_record_breaks_the_chain(trained, run_here, changes, message):
    resave(FORGOTTEN, lambda model, record: record.update(changes))
    assert any(message in line for line in broken_lines(run_here))


def test_a_model_under_the_name_of_another_breaks_the_chain(trained, run_here):
    Path(f"model_weights/{FORGOTTEN}.pt").write_bytes(Path(f"model_weights/{BASE}.pt").read_bytes())
    assert "has the name that it was saved under: no, it was tiny_best" in broken_lines(run_here)[0]


def test_a_valid_mask_is_kept_and_used(trained, done, run_here, data_files, undrawn):
    """Computed on another device it may differ, and existing models were made with it."""
    grey = ("--model_id", BASE, "--dataset", data_files["grey"], "--device", "cpu")
    content = load_tensors(MASK, "saliency map")
    request, percentiles = ForgetRequest((3,)), content["percents"]
    percentiles["network.fc.weight"] = percentiles["network.fc.weight"].flip(0).clone()
    save_saliency_map(MASK, SaliencyMap(percentiles), request, content["origin"])
    kept = MASK.read_bytes()
    done("main_unlearn", *grey, *UNLEARN_ONCE, "--overwrite")
    options = ("--class_to_forget", "3")
    message = f"class 3 duct: {MASK} exists already and is kept"
    assert message in done("generate_mask", *grey, *options, "--batch_size", "1")
    assert message in done("generate_mask", *grey, *options, "--resume", "--overwrite")
    done("main_compare", *grey, *options, "--unlearn", "GA_with_SalUn")
    assert MASK.read_bytes() == kept
    assert broken_lines(run_here) == []
    (other,) = Path("model_weights").glob("*_GA_WITH_SALUN_*.pt")
    assert read_record(other.stem)["mask_digest"] == weights_digest(percentiles)
    done("generate_mask", *grey, *options, "--overwrite")
    assert MASK.read_bytes() != kept
    assert "has the digest in the record" in broken_lines(run_here)[0]


def test_a_damaged_mask_is_computed_again(trained, done, run_here, data_files, undrawn):
    content = load_tensors(MASK, "saliency map")
    altered = {name: part.clone() for name, part in content["percents"].items()}
    altered["network.fc.weight"][0, 0] = 101 - altered["network.fc.weight"][0, 0]
    save_tensors(MASK, content | {"percents": altered})
    grey = ("--dataset", data_files["grey"], "--device", "cpu")
    done("generate_mask", "--model_id", BASE, *grey, "--class_to_forget", "3")
    assert broken_lines(run_here) == []


def test_several_generations(trained, run_here):
    """Both ancestors of a model that was unlearned from an unlearned model are checked."""
    third = f"{FORGOTTEN}_FORGOTTEN_2_GA_unlearnEpochs1_unlearnlr01"
    model, record = load_model(FORGOTTEN)
    own = {
        "parent_id": FORGOTTEN,
        "parent_digest": record["weights_digest"],
        "method": "GA",
        "forget_request": {"class_to_forget": 2},
        "settings": {"mask_thresh": None},
    }
    save_model(third, model, record | own)
    assert broken_lines(run_here, model_id=third) == []
    resave(BASE, shift_weights)
    assert f"parent {BASE} of {FORGOTTEN}" in broken_lines(run_here, model_id=third)[0]


def test_the_retrain_in_the_results_is_checked(trained, run_here, done, data_files, undrawn):
    data = ("--dataset", data_files["grey"], "--device", "cpu")
    done("main_unlearn", "--model_id", BASE, *RETRAIN, *data)
    retrain = next(path.stem for path in Path("model_weights").glob("*RETRAIN*"))
    test = ("--model_id", FORGOTTEN, *data, "--measures", "forgetting")
    lines = run_here("main_test_unlearn", "--model_id", FORGOTTEN, "--verify").stdout
    assert f"holds    Retrain {retrain}: is a Retrain of the same base model" in lines
    run_here("main_test_unlearn", *test)
    path = Path(f"results/{FORGOTTEN}.json")
    assert json.loads(path.read_bytes())["retrain_model_ids"] == [retrain]
    assert broken_lines(run_here) == []
    resave(retrain, shift_weights)
    assert "has the digest in the results" in broken_lines(run_here)[0]
    path.write_text(json.dumps({"weights_digest": read_record(FORGOTTEN)["weights_digest"]}))
    assert f"results {path}: " in broken_lines(run_here)[0]
    path.write_text("[" * 100_000)
    assert f"results {path}: " in broken_lines(run_here)[0]


def test_bad_input(trained, refused):
    refused("there is no model", "main_test_unlearn", "--model_id", "nobody", "--verify")
    refused(
        "unknown data set",
        *("main_test_unlearn", "--model_id", BASE, "--verify", "--dataset", "Nowhere"),
    )
    weights = torch.load(f"model_weights/{BASE}.pt", weights_only=True)["weights"]
    torch.save(weights, "model_weights/bare.pt")
    flags = ("--model_id", "bare", "--verify", "--arch", SMALL_ARCH)
    refused("has weights but no record", "main_test_unlearn", *flags)


def test_a_duration_of_zero_seconds_is_unknown(trained, done, run_here, data_files, undrawn):
    """Another program may have rounded it; no percentage is computed from it."""
    data = ("--dataset", data_files["grey"], "--device", "cpu")
    done("main_unlearn", "--model_id", BASE, *RETRAIN, *data)
    retrain = next(path.stem for path in Path("model_weights").glob("*RETRAIN*"))

    def round_seconds(model, record):
        record["seconds"] = 0

    for model_id in (FORGOTTEN, retrain):
        assert read_record(model_id)["seconds"] > 0
        resave(model_id, round_seconds)
        assert "seconds" not in read_record(model_id)
    test = ("--model_id", FORGOTTEN, *data, "--measures", "cost")
    done("main_test_unlearn", *test)
    results = json.loads(Path(f"results/{FORGOTTEN}.json").read_bytes())
    assert results["unlearn_seconds"] is None
    done("main_compare", "--model_id", BASE, *data, "--class_to_forget", "3", "--unlearn", "GA")

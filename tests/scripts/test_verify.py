"""`main_test_unlearn.py --verify`: what holds in the chain of a model, and where it breaks."""

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
from unlearn.saliency import save_percentiles

MASK = Path("SaliencyMaps") / BASE / "class_3.pt"
RETRAIN = ("--unlearn", "Retrain", "--class_to_forget", "3")


def breaks(run_here, *flags, model_id=FORGOTTEN):
    """The lines that break; the exit code must be 1 if there are any, else 0."""
    result = run_here("main_test_unlearn", "--model_id", model_id, "--verify", *flags)
    lines = [line for line in result.stdout.splitlines() if line.startswith("BREAKS")]
    assert (result.returncode, result.stderr) == (1 if lines else 0, ""), result
    assert f"The chain of {model_id} {'is broken' if lines else 'holds'}" in result.stdout
    return lines


def resaved(model_id, change):
    """The model saved anew, as by somebody who makes all of its own digests right."""
    model, record = load_model(model_id)
    change(model, record)
    save_model(model_id, model, record)


def moved(model, record):
    with torch.no_grad():
        model.network.fc.weight += 1


def test_a_chain_that_holds(trained, run_here, data_files):
    assert breaks(run_here) == []
    assert breaks(run_here, "--dataset", data_files["grey"]) == []
    assert breaks(run_here, model_id=BASE) == []


def test_what_is_told_of_a_chain(trained, run_here):
    """Each digest in the lines is worked out here from the tensors."""
    lines = run_here("main_test_unlearn", "--model_id", FORGOTTEN, "--verify").stdout
    for model_id in (BASE, FORGOTTEN):
        digest = weights_digest(load_model(model_id)[0].network.state_dict())
        assert f"{model_id}: weights and record are as saved, sha256 {digest[:12]}\n" in lines
    percents = torch.load(MASK, weights_only=True)["percents"]
    assert f"mask {MASK}: has the digest in the record, sha256 " in lines
    assert weights_digest(percents)[:12] in lines
    assert f"unknown  {FORGOTTEN}: was not compared with a Retrain" in lines


def test_other_data_break_it(trained, run_here, data_files):
    for_each = breaks(run_here, "--dataset", data_files["other"])
    assert [line.split(":")[0] for line in for_each] == [
        f"BREAKS   data of {FORGOTTEN}",
        f"BREAKS   data of {BASE}",
    ]


def test_another_parent_breaks_it(trained, run_here):
    resaved(BASE, moved)
    found = breaks(run_here)
    assert f"parent {BASE} of {FORGOTTEN}: has the digest" in found[0]
    assert "outside it are bitwise identical to the parent's: no" in found[-1]


def test_a_parent_that_is_gone_or_damaged_breaks_it(trained, run_here):
    path = Path(f"model_weights/{BASE}.pt")
    whole = path.read_bytes()
    path.write_bytes(whole[:5000])
    assert "is cut short, damaged" in breaks(run_here)[0]
    path.unlink()
    assert f"parent {BASE}: it is not in model_weights/" in breaks(run_here)[0]


def test_a_weight_outside_the_mask_breaks_it(trained, run_here):
    content = torch.load(MASK, weights_only=True)
    name, percents = max(content["percents"].items(), key=lambda item: int(item[1].max()))
    outside = int((percents.flatten() > 50).nonzero()[0])

    def nudge(model, record):
        with torch.no_grad():
            dict(model.named_parameters())[name].view(-1)[outside] += 1

    resaved(FORGOTTEN, nudge)
    (line,) = breaks(run_here)
    assert line.endswith("outside it are bitwise identical to the parent's: no, 1 are not")


def test_another_mask_breaks_it(trained, run_here):
    content = torch.load(MASK, weights_only=True)
    next(iter(content["percents"].values())).view(-1)[0] ^= 1
    torch.save(content, MASK)
    assert "is damaged or altered: create it again" in breaks(run_here)[0]
    content["percents_digest"] = weights_digest(content["percents"])
    torch.save(content, MASK)
    assert "has the digest in the record" in breaks(run_here)[0]
    MASK.unlink()
    assert "there is no mask" in breaks(run_here)[0]


@pytest.mark.parametrize(
    "changes, says",
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
def test_a_record_that_tells_something_else(trained, run_here, changes, says):
    resaved(FORGOTTEN, lambda model, record: record.update(changes))
    assert any(says in line for line in breaks(run_here))


def test_a_model_in_the_place_of_another(trained, run_here):
    Path(f"model_weights/{FORGOTTEN}.pt").write_bytes(Path(f"model_weights/{BASE}.pt").read_bytes())
    assert "has the name that it was saved under: no, it was tiny_best" in breaks(run_here)[0]


def test_a_valid_mask_is_kept_and_used(trained, done, run_here, data_files, undrawn):
    """It may differ from one computed on another device, and is what models were made with."""
    grey = ("--model_id", BASE, "--dataset", data_files["grey"], "--device", "cpu")
    content = load_tensors(MASK, "saliency map")
    request, percentiles = ForgetRequest((3,)), content["percents"]
    percentiles["network.fc.weight"] = percentiles["network.fc.weight"].flip(0).clone()
    save_percentiles(MASK, percentiles, request, content["origin"])
    kept = MASK.read_bytes()
    done("main_unlearn", *grey, *UNLEARN_ONCE, "--overwrite")
    asked = ("--class_to_forget", "3")
    says = f"class 3 duct: {MASK} exists already and is kept"
    assert says in done("generate_mask", *grey, *asked, "--batch_size", "1")
    assert says in done("generate_mask", *grey, *asked, "--resume", "--overwrite")
    done("main_compare", *grey, *asked, "--unlearn", "GA_with_SalUn")
    assert MASK.read_bytes() == kept
    assert breaks(run_here) == []
    (other,) = Path("model_weights").glob("*_GA_WITH_SALUN_*.pt")
    assert read_record(other.stem)["mask_digest"] == weights_digest(percentiles)
    done("generate_mask", *grey, *asked, "--overwrite")
    assert MASK.read_bytes() != kept
    assert "has the digest in the record" in breaks(run_here)[0]


def test_a_damaged_mask_is_computed_again(trained, done, run_here, data_files, undrawn):
    content = load_tensors(MASK, "saliency map")
    altered = {name: part.clone() for name, part in content["percents"].items()}
    altered["network.fc.weight"][0, 0] = 101 - altered["network.fc.weight"][0, 0]
    save_tensors(MASK, content | {"percents": altered})
    grey = ("--dataset", data_files["grey"], "--device", "cpu")
    done("generate_mask", "--model_id", BASE, *grey, "--class_to_forget", "3")
    assert breaks(run_here) == []


def test_several_generations(trained, run_here):
    """A model that came out of an unlearned one: both of its ancestors are looked at."""
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
    assert breaks(run_here, model_id=third) == []
    resaved(BASE, moved)
    assert f"parent {BASE} of {FORGOTTEN}" in breaks(run_here, model_id=third)[0]


def test_the_retrain_that_the_results_name(trained, run_here, done, data_files, undrawn):
    data = ("--dataset", data_files["grey"], "--device", "cpu")
    done("main_unlearn", "--model_id", BASE, *RETRAIN, *data)
    retrain = next(path.stem for path in Path("model_weights").glob("*RETRAIN*"))
    test = ("--model_id", FORGOTTEN, *data, "--measures", "forgetting")
    lines = run_here("main_test_unlearn", "--model_id", FORGOTTEN, "--verify").stdout
    assert f"holds    Retrain {retrain}: is a Retrain of the same base model" in lines
    run_here("main_test_unlearn", *test)
    path = Path(f"results/{FORGOTTEN}.json")
    assert json.loads(path.read_bytes())["retrain_model_ids"] == [retrain]
    assert breaks(run_here) == []
    resaved(retrain, moved)
    assert "has the digest in the results" in breaks(run_here)[0]
    path.write_text(json.dumps({"weights_digest": read_record(FORGOTTEN)["weights_digest"]}))
    assert f"results {path}: " in breaks(run_here)[0]
    path.write_text("[" * 100_000)
    assert f"results {path}: " in breaks(run_here)[0]


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
    """As in a model of another program, which rounds durations; nothing is divided by 0."""
    data = ("--dataset", data_files["grey"], "--device", "cpu")
    done("main_unlearn", "--model_id", BASE, *RETRAIN, *data)
    retrain = next(path.stem for path in Path("model_weights").glob("*RETRAIN*"))

    def rounded(model, record):
        record["seconds"] = 0

    for model_id in (FORGOTTEN, retrain):
        assert read_record(model_id)["seconds"] > 0
        resaved(model_id, rounded)
        assert "seconds" not in read_record(model_id)
    test = ("--model_id", FORGOTTEN, *data, "--measures", "cost")
    done("main_test_unlearn", *test)
    results = json.loads(Path(f"results/{FORGOTTEN}.json").read_bytes())
    assert results["unlearn_seconds"] is None
    done("main_compare", "--model_id", BASE, *data, "--class_to_forget", "3", "--unlearn", "GA")

"""Masks that contain every weight with a gradient: what each script prints and keeps of them."""

import json
from pathlib import Path

import pytest
import torch

from models.checkpoint import load_model, load_tensors, read_record, save_model, save_tensors
from tests.helpers.environment import BASE, assert_one_line, model_flags
from tests.helpers.output import check_plain, results_of

DEAD = "dead"
CLASS = ("--class_to_forget", "3")
# 12 of the 16 channels of the last convolution are dead. Weights without a gradient: 12 kernels of
# 3x3x8, 12 pairs of normalisation, 16 positions of 12 channels for each of 4 classes. All weights:
# 3x3x8 + 16, 3x3x8x16 + 32, and 16x16x4 + 4.
ZEROS, WEIGHTS = 864 + 24 + 768, 72 + 16 + 1152 + 32 + 1024 + 4
LINE = (
    f"  saliency exactly 0: {ZEROS:,} of {WEIGHTS:,} weights (72.00%); from --mask_thresh 0.28 on, "
    "the mask contains all others\n"
)
WARNING = (  # 644 weights have a gradient, exactly 28% of them
    "the mask at 0.5 contains every weight that has a gradient: it changes next to nothing; "
    "choose a threshold below 0.28"
)
ID = f"{DEAD}_FORGOTTEN_3_GA_WITH_SALUN_mask{{}}_unlearnEpochs5_unlearnlr000003"
FACTS = {"mask_zero_fraction": ZEROS / WEIGHTS, "mask_full_threshold": 0.28}


@pytest.fixture
def flags(trained, data_files, undrawn):
    """Flags of a model most of whose weights have no gradient."""
    model, record = load_model(BASE)
    with torch.no_grad():
        model.network.norm2.weight[:12] = 0.0
        model.network.norm1.bias += 3.0  # the other channels are never dead
        model.network.norm2.bias[:12] = -1.0
        model.network.norm2.bias[12:] += 3.0
    save_model(DEAD, model, record)
    return model_flags(data_files["grey"], DEAD)


def forget_zeros():
    """Turn the saliency map into one of an earlier version; return its content."""
    path = Path(f"SaliencyMaps/{DEAD}/class_3.pt")
    content = load_tensors(path, "saliency map")
    assert sum(content.pop("zeros").values()) == ZEROS
    save_tensors(path, content)
    return path.read_bytes()


def test_generate_mask_counts_the_zeros_and_warns(done, flags):
    for _ in range(2):  # the second run keeps the masks
        printed = done("generate_mask", *flags)
        assert printed.count("  saliency exactly 0: ") == 4
        assert LINE in printed.split("class 3 duct: ")[1]
        assert f"WARNING: 4 of 4 masks: {WARNING}\n" in printed
    before = forget_zeros()
    printed = done("generate_mask", *flags, *CLASS)
    assert LINE in printed and f"\nWARNING: {WARNING}\n" in printed
    assert Path(f"SaliencyMaps/{DEAD}/class_3.pt").read_bytes() == before


def test_generate_mask_does_not_warn_of_a_usual_model(done, trained, data_files, undrawn):
    printed = done("generate_mask", *model_flags(data_files["grey"]))
    assert printed.count("  saliency exactly 0: ") == 4
    assert "WARNING" not in printed


@pytest.mark.parametrize("earlier", [False, True])
def test_main_unlearn_warns_and_records_it(done, flags, earlier):
    done("generate_mask", *flags, *CLASS)
    if earlier:
        forget_zeros()
    unlearn = ("main_unlearn", *flags, *CLASS, "--unlearn", "GA_with_SalUn", "--mask_thresh")
    printed = done(*unlearn, "0.5")
    assert f"may change\nWARNING: {WARNING}\n" in printed
    assert printed.index("WARNING") < printed.index("epoch 1/5")
    assert "WARNING: the mask at 0.28 contains" in done(*unlearn, "0.28")
    assert "WARNING" not in done(*unlearn, "0.27")
    for words in ("5", "28", "27"):
        record = read_record(ID.format(words))
        assert {key: record[key] for key in FACTS} == FACTS


@pytest.mark.parametrize("threshold, is_full", [("0.28", True), ("0.27", False)])
def test_main_test_unlearn_warns_of_models_of_any_version(done, flags, threshold, is_full):
    done("generate_mask", *flags, *CLASS)
    unlearn = ("--unlearn", "GA_with_SalUn", "--mask_thresh", threshold)
    done("main_unlearn", *flags, *CLASS, *unlearn)
    model_id = ID.format(threshold[2:])
    model, record = load_model(model_id)
    for known in (record, {key: record[key] for key in record if key not in FACTS}):
        save_model(model_id, model, known)
        test = ("--model_id", model_id, *flags[2:], "--measures", "forgetting")
        warned = "WARNING: the mask at 0.28 contains" in done("main_test_unlearn", *test)
        assert warned is is_full
        results = results_of(model_id)
        check_plain(results)
        assert {key: results[key] for key in FACTS} == FACTS
        assert results["mask_thresh"] == float(threshold)
        assert results["mask_is_all_gradients"] is is_full


@pytest.mark.parametrize("key", FACTS)
def test_records_that_cannot_be_true_are_refused(run_here, flags, key):
    model, record = load_model(DEAD)
    save_model("other", model, record | {key: 1.5})
    result = run_here("main_test", "--model_id", "other", *flags[2:], "--no_window")
    assert result.returncode == 2
    assert_one_line(result.stderr, f"{key} is not a number from 0 to 1")


def test_main_compare_warns_below_its_table_in_every_run(done, flags):
    compare = ("main_compare", *flags, *CLASS, "--unlearn", "GA", "GA_with_SalUn")
    name = f"results/{DEAD}_FORGOTTEN_3_comparison"
    line = f"WARNING: methods with SalUn: {WARNING}\n"
    for earlier in (False, False, True):
        if earlier:
            content = json.loads(Path(f"{name}.json").read_bytes())
            for figures in content["trials"].values():
                for key in FACTS:
                    figures.pop(key, None)
            Path(f"{name}.json").write_text(json.dumps(content))
            forget_zeros()
        printed = done(*compare)
        assert printed.count("WARNING") == 1 and f"\n{line}" in printed
        assert Path(f"{name}.md").read_text().endswith(f"\n\n{line}")
        if not earlier:
            trials = json.loads(Path(f"{name}.json").read_bytes())["trials"]
            assert trials[ID.format("5")].items() >= FACTS.items()
    assert "WARNING" not in done(*compare, "--mask_thresh", "0.27")


def test_main_compare_does_not_warn_without_a_method_in_a_mask(done, flags):
    assert "WARNING" not in done("main_compare", *flags, *CLASS, "--unlearn", "GA")

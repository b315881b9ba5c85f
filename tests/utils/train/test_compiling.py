"""--compile: training with torch.compile gives the weights of training without it."""

import shutil

import pytest
import torch

import main_train
import main_unlearn
from models.checkpoint import read_record
from tests.helpers.environment import TRAIN
from tests.helpers.tiny import same_weights, tiny_model, tiny_set, weights_of
from unlearn.engine.settings import default_config
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.runtime import processes
from utils.runtime.errors import UserError
from utils.train.compiling import check_compiles
from utils.train.prediction import predict
from utils.train.recipe import Recipe
from utils.train.training import TrainingRun

COMPILERS = ("g++", "clang++", "c++")
with_compiler = pytest.mark.skipif(
    not any(map(shutil.which, COMPILERS)), reason=f"none of {', '.join(COMPILERS)} is installed"
)


@pytest.fixture
def eager_passes(monkeypatch):
    """Sizes of the batches that run without compilation."""
    sizes = []
    forward = torch.nn.Flatten.forward

    def recording_forward(layer, values):
        if not torch.compiler.is_compiling():
            sizes.append(len(values))
        return forward(layer, values)

    monkeypatch.setattr(torch.nn.Flatten, "forward", recording_forward)
    return sizes


def trained(compiled):
    model = tiny_model()
    recipe = Recipe(2, 0.05, 10, compiled=compiled)
    run = TrainingRun(model, tiny_set(24), tiny_set(12, seed=1), recipe)
    run.run(show=False)
    return run


@with_compiler
@pytest.mark.filterwarnings("ignore")  # torch's own code raises warnings
def test_full_batches_are_compiled_and_train_the_same_weights(eager_passes):
    eager = trained(compiled=False)
    assert eager_passes == [10, 10, 4, 12] * 2
    eager_passes.clear()
    run = trained(compiled=True)
    assert eager_passes == [4, 12] * 2  # the last batch of an epoch, and the validation images
    for name, weights in weights_of(eager.model).items():
        torch.testing.assert_close(run.model.state_dict()[name], weights, rtol=1e-4, atol=1e-6)
    assert not same_weights(tiny_model(), run.model)
    assert torch.equal(predict(run.model, tiny_set(10)), predict(run.model, tiny_set(20))[:10])


def test_a_missing_compiler_is_an_error_before_the_first_step(monkeypatch):
    def missing(*_, **__):
        raise RuntimeError("no C++ compiler\nwas found")

    monkeypatch.setattr(torch, "compile", missing)
    with pytest.raises(UserError, match=r"does not work here \(no C\+\+ compiler was found\)"):
        check_compiles("cpu")
    with pytest.raises(UserError, match="install a C"):
        trained(compiled=True)


def test_only_retrain_inherits_compiled_from_its_base_model():
    recipe = {"epochs": 2, "lr": 0.1, "batch_size": 10, "seed": 7, "compiled": True}
    record = {"recipe": recipe, "selection": "best"}
    request = ForgetRequest((1,))
    assert default_config(METHODS["Retrain"], request, record).recipe.compiled
    assert not default_config(METHODS["RL"], request, record).recipe.compiled


def test_the_flag_compiles_the_base_model_and_its_retrain(workplace, data_files, monkeypatch):
    compile_calls = []
    monkeypatch.setattr("models.architectures.check_compiles", lambda device: None)
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda *_, **kwargs: compile_calls.append(kwargs)
    )
    data = ("--dataset", data_files["grey"], "--device", "cpu")
    main_train.main(["--save_model_id", "tiny", *TRAIN, "--compile", *data])
    assert compile_calls == [{"dynamic": False}]
    assert read_record("tiny_best")["recipe"]["compiled"] is True
    base = ("--model_id", "tiny_best", "--class_to_forget", "1", *data)
    for method, count in (("FT", 1), ("Retrain", 2)):
        made = main_unlearn.main(["--unlearn", method, *base])
        assert len(compile_calls) == count
        settings = read_record(made)["settings"]
        assert settings["compiled"] is (method == "Retrain")


def test_several_processes_do_not_compile(monkeypatch):
    monkeypatch.setattr(processes, "world_size", lambda: 2)
    model = tiny_model()
    model.compile_for(10)
    assert model.compiled_batch_size is None

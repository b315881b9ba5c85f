"""Which trials a command plans."""

from types import SimpleNamespace

from evaluation.comparison.joint import MAX_JOINED, joint_id
from evaluation.comparison.runs import Run, describe_plan, plan_runs, retrain_seeds
from evaluation.comparison.trials import Trial
from unlearn.registry import METHODS

RETRAIN, GA = METHODS["Retrain"], METHODS["GA"]


class Recorded:
    """A comparison with these finished trials."""

    def __init__(self, *trials):
        self.trials = trials

    def earlier(self):
        return list(self.trials)

    def finished(self, trial):
        return {"seconds": 1.0} if trial in self.trials else None


def seeds(run):
    return [trial.seed for trial in run.planned if trial.method.id == "Retrain"]


def test_retrain_runs_with_the_seeds_and_with_further_ones_if_they_are_few():
    assert retrain_seeds([1], 2, ()) == [1, 2]
    assert retrain_seeds([1, 2, 5], 3, ()) == [1, 2, 5]
    assert retrain_seeds([4, 1], 5, ()) == [4, 1, 5, 6, 7]
    assert retrain_seeds([1], 4, known=[1, 7]) == [1, 7, 2, 3]
    assert retrain_seeds([1], 3, known=[2, 3], others=[2]) == [1, 3, 4]


def test_all_retrains_are_planned_before_the_methods():
    (run,) = plan_runs([Recorded()], [RETRAIN, GA], [1, 2], retrains=3)
    planned = [(trial.method.id, trial.seed) for trial in run.planned]
    assert planned == [("Retrain", 1), ("Retrain", 2), ("Retrain", 3), ("GA", 1), ("GA", 2)]
    assert describe_plan([run]) == "5 trials, 3 of Retrain (seeds 1, 2, 3)"
    assert run.finished() == {}
    assert run.failed_retrains() == [1, 2, 3]


def test_finished_trials_of_earlier_commands_count():
    trials = Trial(RETRAIN, 1), Trial(RETRAIN, 8), Trial(GA, 5)
    (run,) = plan_runs([Recorded(*trials)], [GA], [1])
    assert seeds(run) == [1, 8]
    assert list(run.finished()) == [Trial(GA, 5), Trial(RETRAIN, 1), Trial(RETRAIN, 8)]
    assert describe_plan([run]).endswith(": 2 of 3 trials are finished already")


def test_base_models_have_retrains_of_different_seeds():
    first, second, third = plan_runs([Recorded(), Recorded(), Recorded()], [GA], [1, 2])
    assert (seeds(first), seeds(second), seeds(third)) == ([1, 2], [1001, 1002], [2001, 2002])
    assert [run.retrain_offset for run in (first, second, third)] == [0, 1000, 2000]
    assert {trial.seed for trial in second.planned if trial.method is GA} == {1, 2}


def test_seeds_that_are_far_apart_are_not_those_of_another_base_model():
    runs = plan_runs([Recorded(), Recorded(), Recorded()], [GA], [1, 1001, 2500])
    found = [seed for run in runs for seed in seeds(run)]
    assert len(set(found)) == len(found) == 9
    assert [run.other_seeds.isdisjoint(seeds(run)) for run in runs] == [True] * 3


def test_a_retrain_of_an_earlier_command_is_no_reference_if_another_base_model_has_its_seed():
    own = [Trial(RETRAIN, 1), Trial(RETRAIN, 2), Trial(RETRAIN, 9)]
    first, second = plan_runs([Recorded(Trial(RETRAIN, 1001)), Recorded(*own)], [GA], [1])
    assert seeds(first) == [1, 2]
    assert first.finished() == {}  # 1001 belongs to the second base model
    assert seeds(second) == [1001, 9]
    assert list(second.finished()) == [Trial(RETRAIN, 9)]


def test_the_name_of_several_base_models_is_short_and_unique():
    assert joint_id(["a"]) == "a"
    assert joint_id(["a_best", "b_best"]) == "a_best_and_b_best"
    many = [f"model_with_a_long_name_{number}_best" for number in range(10)]
    names = {joint_id(many), joint_id(many[:-1]), joint_id(many[::-1])}
    assert len(names) == 3 and max(map(len, names)) <= MAX_JOINED
    assert joint_id(many).startswith("model_with_a_long_name_0_best_and_9_others-")


def test_a_run_without_earlier_trials_is_complete():
    run = Run(SimpleNamespace(base_id="a"), {Trial(GA, 1): None}, {})
    assert (run.finished(), run.failed_retrains()) == ({}, [])

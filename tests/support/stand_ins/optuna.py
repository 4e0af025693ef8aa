"""As much of Optuna as docs/examples/optuna_pruning.py asks for; the last of the trials is pruned."""

import types
from collections.abc import Callable


class TrialPruned(Exception):
    """A trial was stopped early."""


class Trial:
    def __init__(self, number: int, is_pruned: bool) -> None:
        self.number, self.is_pruned = number, is_pruned
        self.params: dict[str, float] = {}
        self.reported: dict[int, float] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        assert log
        self.params[name] = (low * high) ** 0.5
        return self.params[name]

    def report(self, value: float, step: int) -> None:
        assert step > max(self.reported, default=0)
        self.reported[step] = value

    def should_prune(self) -> bool:
        return self.is_pruned


class Study:
    def optimize(self, objective: Callable[[Trial], float], n_trials: int) -> None:
        finished = []
        for number in range(n_trials):
            trial = Trial(number, is_pruned=number == n_trials - 1)
            try:
                finished.append((objective(trial), trial))
                assert not trial.is_pruned, "a pruned trial went on to its end"
                assert len(trial.reported) > 1
            except TrialPruned:
                assert trial.is_pruned
                assert len(trial.reported) == 1
        assert len(finished) == n_trials - 1
        self.best_value, best = max(finished, key=lambda each: each[0])
        self.best_params = best.params


def create_study(direction: str, pruner: object) -> Study:
    assert direction == "maximize"
    return Study()


pruners = types.SimpleNamespace(MedianPruner=lambda n_startup_trials: None)

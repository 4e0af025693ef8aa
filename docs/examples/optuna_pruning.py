"""Search for a learning rate with Optuna, and stop trials early whose evaluations fall behind those of others."""

# needs optuna

import dataclasses

import optuna

from pixelq.agents import DQN, Callback, Evaluation, Training, preset
from pixelq.envs import make_vec


class Pruning(Callback):
    """Reports every evaluation to an Optuna trial, and stops the training if Optuna prunes the trial."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial, self.score, self.evaluations = trial, 0.0, 0

    def on_evaluation(self, training: Training, evaluation: Evaluation) -> None:
        self.score, self.evaluations = evaluation.mean, self.evaluations + 1
        self.trial.report(self.score, self.evaluations)  # training.step may differ a little between trials
        if self.trial.should_prune():
            training.stop("the trial is pruned")


def objective(trial: optuna.Trial) -> float:
    rate = trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True)
    config = dataclasses.replace(preset("classic"), learning_rate=rate, learning_starts=100, hidden=32)
    envs, others = (make_vec("CartPole-v1", 4, seed) for seed in (0, 1))
    agent, pruning = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu"), Pruning(trial)
    agent.learn(envs, 800, evaluation_envs=others, evaluate_every=200, evaluation_episodes=4, callbacks=[pruning])
    if agent.step < 800:  # stopped by the callback
        raise optuna.TrialPruned
    return pruning.score


study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(n_startup_trials=2))
study.optimize(objective, n_trials=4)
print(f"best mean return {study.best_value:.1f} with {study.best_params}")

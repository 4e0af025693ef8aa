"""A callback of your own: lower the learning rate when evaluations stop improving.

On the command line, with this file in the working folder:
    pixelq train --env CartPole-v1 --callback 'own_callback:LowerRate(patience=2)' --callback 'StopAtScore(score=475)'
"""

import dataclasses
from typing import Any

from pixelq.agents import DQN, Callback, Evaluation, StopAtScore, Training
from pixelq.envs import make_vec


class LowerRate(Callback):
    """Halves the learning rate after `patience` evaluations in a row without a better mean."""

    def __init__(self, patience: int = 2) -> None:
        self.patience, self.best, self.waited = patience, float("-inf"), 0

    def on_evaluation(self, training: Training, evaluation: Evaluation) -> None:
        self.waited = 0 if evaluation.mean > self.best else self.waited + 1
        self.best = max(self.best, evaluation.mean)
        if self.waited == self.patience:
            self.waited, config = 0, training.agent.config
            training.agent.config = dataclasses.replace(config, learning_rate=config.learning_rate / 2)
            print(f"step {training.step}: the learning rate is {training.agent.config.learning_rate:g}")

    def state(self) -> dict[str, Any]:  # saved in every checkpoint, so that a resumed run continues exactly
        return {"best": self.best, "waited": self.waited}

    def load_state(self, values: dict[str, Any]) -> None:
        self.best, self.waited = values["best"], values["waited"]


if __name__ == "__main__":
    envs, evaluation_envs = make_vec("CartPole-v1", 4, seed=0), make_vec("CartPole-v1", 4, seed=1)
    agent = DQN(envs.single_observation_space, envs.single_action_space, "classic", device="cpu", seed=0)
    callbacks = [LowerRate(patience=1), StopAtScore(score=475)]
    options = {"evaluation_envs": evaluation_envs, "evaluate_every": 250, "evaluation_episodes": 4}
    agent.learn(envs, 1_500, "run", callbacks=callbacks, **options)

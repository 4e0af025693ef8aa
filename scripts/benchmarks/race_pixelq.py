"""Our agents in a race: a preset, trained as `pixelq train` trains it."""

from __future__ import annotations

from typing import Any

import numpy as np

from pixelq.agents import Callback
from pixelq.agents.kinds import kind_of
from pixelq.agents.training.callbacks import Training
from pixelq.agents.training.interval import Episodes
from pixelq.envs import AtariVec, make_vec
from pixelq.scripts.benchmarks.racing import Clock, Conditions
from pixelq.scripts.flags.train import defaults_of

ENDLESS = 10**12
"""Steps that no race takes; no setting depends on them."""


class Pixelq:
    """A preset on our environments, without evaluations and checkpoints.

    Args:
        conditions: What is the same for all entries.
        seed: Seed of the weights, the games and every random choice.
        preset: Name of the preset.
        num_envs: Number of environments; None for that of `pixelq train`.
    """

    def __init__(self, conditions: Conditions, seed: int, *, preset: str, num_envs: int | None = None) -> None:
        defaults = defaults_of(preset)
        config = defaults.agent
        self.envs = make_vec(
            conditions.env,
            num_envs or defaults.num_envs,
            seed,
            conditions.protocol,
            frame_stack=config.frame_stack,
            frame_size=config.frame_size,
        )
        space, actions = self.envs.single_observation_space, self.envs.single_action_space
        self.agent = kind_of(config)(space, actions, config, device=conditions.device, seed=seed)
        self.preset = preset

    def settings(self) -> dict[str, Any]:
        """Return the settings, and where they are from."""
        agent = self.agent.config.to_dict()
        source = f"pixelq train --preset {self.preset}, without its evaluations and checkpoints"
        return {"source": source, "num_envs": self.envs.num_envs, "agent": agent}

    def train(self, clock: Clock) -> None:
        """Train for ever."""
        self.agent.learn(self.envs, ENDLESS, callbacks=[_Ticks(clock, self.envs)])


class _Ticks(Callback):
    """Lets a clock tick after each step of a training.

    Args:
        clock: The clock.
        envs: The environments, which tell of each step.
    """

    watches_only = True

    def __init__(self, clock: Clock, envs: Any) -> None:
        self.clock, self.ended = clock, list[float]()
        name = "recv" if isinstance(envs, AtariVec) else "step"  # of games that play in the background, or not
        play, games = getattr(envs, name), Episodes(envs.num_envs)

        def played(*arguments: Any) -> Any:
            outcome = play(*arguments)
            _, reward, terminated, truncated, _ = outcome
            self.ended += [game.total for game in games.step(reward, np.logical_or(terminated, truncated))]
            return outcome

        setattr(envs, name, played)

    def on_step(self, training: Training) -> None:
        self.clock.tick(training.step, self.ended)
        self.ended = []

    def state(self) -> dict[str, Any]:
        """Return nothing, since nothing of it changes the training."""
        return {}

"""The agent: a policy that learns, and is saved and loaded."""

from __future__ import annotations

import dataclasses
import math
import os
from importlib.metadata import version
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelq.agents.acting.network import check_update_memory, make_network, set_options
from pixelq.agents.acting.policy import ACTION_MASKS, Policy
from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.at_step import epsilons_at, learning_rate_at, priority_beta_at
from pixelq.agents.config.seeds import agent_seeds, learner_seed
from pixelq.agents.errors import InvalidConfig
from pixelq.agents.experience.replay import Replay, change_replay, make_replay
from pixelq.agents.experience.rollout import Rollout, check_minibatches, make_rollout, ring_length
from pixelq.agents.learning.learner import Learner
from pixelq.agents.learning.own_targets import own_rule
from pixelq.agents.learning.rollout_learner import RolloutLearner
from pixelq.agents.storage.checkpoint import Checkpoint, write_checkpoint
from pixelq.agents.storage.environments import ARGUMENTS
from pixelq.agents.storage.files import user_path
from pixelq.agents.storage.validation import count, restore_generator


class Agent(Policy):
    """A policy with a learner, a replay or a rollout, and counters.

    The training loop asks for an `Agent`. Users make a `DQN` or a `PQN`, which add `learn`.

    Args:
        observation_space, action_space, config, device, seed, encoder: See `Policy`.

    Attributes:
        learner: Updates the network; it holds the optimisers and, of a DQN, the target network.
        replay: The replay, or the rollout of a PQN; None before the first training.
        updates: Number of updates of the network.
        episodes: Number of training episodes that have ended.
        rank: Number of this learner among those of the training; see `join`.
        learners: Number of learners that share batches and replay.

    Raises:
        InvalidConfig: See `Policy`, also if the seed is out of range or there are too many actions.
    """

    reads_learner: ClassVar[bool] = True
    learner: Learner | RolloutLearner
    replay: Replay | Rollout | None

    def __init__(
        self,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        config: AgentConfig | str | None = None,
        *,
        device: str | torch.device = "auto",
        seed: int = 0,
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__(observation_space, action_space, config, device=device, seed=seed, encoder=encoder)
        self.config.check_given()
        kind = RolloutLearner if self.config.algorithm == "pqn" else Learner
        self.learner = kind(self.network, self.config, self.seeds.learner)
        self.replay = None
        self._replay_origin: object = None
        self.rank, self.learners = 0, 1
        self.ongoing: object = None  # an `Ongoing` of the last training
        self.updates = 0
        self.episodes = 0
        self.wants_values = self.config.algorithm == "pqn"

    def configure(self, config: AgentConfig) -> None:
        """See `Policy.configure`; the learner and the replay follow, from the next update on.

        Raises:
            InvalidConfig: If the replay or rollout is too small for it, there is not enough memory, or its target rule
                does not work; then nothing has changed.
        """
        old = self.config
        config.check_given()
        num_envs = None if self.replay is None else self.replay.num_envs
        if any(getattr(old, name) != getattr(config, name) for name in ("batch_size", "tau_samples", "minibatches")):
            shape = self.observation_space.shape
            check_update_memory(shape, self.num_actions, config, self.device, num_envs)
        if config.target != old.target:
            own_rule(config, self.network)  # which tries it
        rates = learning_rate_at(config, self.step), priority_beta_at(config, self.step)
        if isinstance(self.replay, Replay):
            change_replay(self.replay, self._share_of(old), self._share_of(config))
            self.replay.set_beta(rates[1])
        elif self.replay is not None:
            check_minibatches(config, self.replay.num_envs)
        super().configure(config)
        if isinstance(self.learner, Learner):
            set_options(self.learner.target_network.head, config)
        self.learner.configure(self._share_of(config))
        self.learner.set_learning_rate(rates[0])

    def join(self, rank: int, learners: int) -> None:
        """Learn as one of several from now on: with a share of every batch and of the replay, and other random numbers.

        The first learner keeps the agent's own. Weights, and those to which resets move them, are the same for all.

        Args:
            rank: Number of this learner, from 0 on.
            learners: Number of learners.

        Raises:
            InvalidConfig: If the learners cannot have equal shares of a batch.
        """
        if (rank, learners) == (self.rank, self.learners):
            return
        if self.learners > 1:
            raise InvalidConfig(f"the agent must go on learning with {self.learners} learners, got {learners}")
        if self.config.algorithm == "dqn" and self.config.batch_size % learners:
            raise InvalidConfig(
                f"batch_size must be a multiple of the {learners} learners, got {self.config.batch_size:,}"
            )
        self.rank, self.learners = rank, learners
        self.replay = self.learner.captured = self.ongoing = None
        self.learner.configure(self._share_of(self.config))
        if rank > 0:
            own = agent_seeds(learner_seed(self.seed, rank))
            self.seeds = own._replace(network=self.seeds.network, resets=self.seeds.resets)
            self.rng = np.random.default_rng(own.actions)
            self.noise.manual_seed(own.noise)
            self.learner.generator.manual_seed(own.learner)

    def _share_of(self, config: AgentConfig) -> AgentConfig:
        """Return a configuration with this learner's share of batches and replay."""
        if self.learners == 1 or config.algorithm == "pqn":
            return config
        batch, capacity = (size // self.learners for size in (config.batch_size, config.replay_capacity))
        return dataclasses.replace(config, batch_size=batch, replay_capacity=capacity)

    def epsilons(self, num_envs: int) -> NDArray[np.float64]:
        """See `Policy`; with several learners, those of this one's environments."""
        first = self.rank * num_envs
        return self.epsilons_of_all(num_envs)[first : first + num_envs]

    def epsilons_of_all(self, num_envs: int) -> NDArray[np.float64]:
        """Return the probability of a random action in all environments, N of each learner."""
        return epsilons_at(self.config, self.step, num_envs * self.learners)

    def check_learning_rate(self) -> None:
        """Check that nobody has changed the optimiser's step size, which the configuration and its schedule set.

        Raises:
            InvalidConfig: If somebody has.
        """
        rate = self.config.learning_rate
        if callable(rate) or self.config.learning_rate_steps is not None:
            return
        found, own = self.learner.learning_rate, float(np.float32(rate))
        if not math.isclose(found, own, rel_tol=1e-6):
            raise InvalidConfig(
                f"the optimiser's learning rate must be the configuration's {own:g}, got {found:g}; "
                f"change it by agent.replace(learning_rate={found:g})"
            )

    def keep_replay_of(self, origin: object) -> bool:
        """Drop the replay unless its steps are of the environments `origin`, and return whether they were others.

        This also holds for rollouts, if earlier ones are kept.

        Args:
            origin: Anything that is equal for environments whose steps may be mixed.
        """
        is_kept = isinstance(self.replay, Replay) or (self.replay is not None and self.config.kept_rollouts > 0)
        others = is_kept and self._replay_origin not in (None, origin)
        if others:
            self.replay = self.learner.captured = None  # the captured update reads from the replay
        self._replay_origin = origin
        return others

    def make_replay(self, num_envs: int, frame_stack: int) -> Replay | Rollout:
        """Return the replay or rollout for N environments and S stacked frames: the present one if it fits, else a new.

        It keeps action masks if the agent has been trained with them.

        Raises:
            InvalidConfig: If the capacity is too small, there are too many minibatches, or not enough memory.
        """
        old = self.replay
        if old is not None and (old.num_envs, old.frame_stack) == (num_envs, frame_stack):
            return old
        is_pqn = self.config.algorithm == "pqn"
        if is_pqn:  # whose minibatches grow with the environments, which were not known before
            check_update_memory(self.observation_space.shape, self.num_actions, self.config, self.device, num_envs)
        make = make_rollout if is_pqn else make_replay
        self.replay = make(
            self.observation_space.shape,
            np.dtype(self.observation_space.dtype),
            self._share_of(self.config),
            num_envs=num_envs,
            frame_stack=frame_stack,
            device=self.device,
            seed=self.seeds.replay,
            num_actions=self.num_actions if self.action_masks else None,
        )
        return self.replay

    def least_rows(self, num_envs: int, frame_stack: int) -> int:
        """Return the least number of rows that `make_replay` gives a store for N environments and S stacked frames."""
        config = self._share_of(self.config)
        if config.algorithm == "pqn":
            length = ring_length(config.rollout_length, frame_stack, config.overlap, config.kept_rollouts)
            return length * num_envs
        period = 1 if config.lstm is None else config.sequence_period
        return (config.replay_capacity // num_envs - period + 1) * num_envs

    def keep_values(self, obs: NDArray[Any] | Tensor, q: Tensor) -> None:
        """See `Policy`; only those of the observations that the rollout has returned last are kept."""
        if isinstance(self.replay, Rollout):
            self.replay.keep_values(obs, q)

    def reset_network(self) -> None:
        """Reset the networks towards newly drawn weights, as `reset_every` asks; see `Learner.reset`."""
        seed = np.random.SeedSequence([self.seeds.resets, self.updates]).generate_state(1, np.uint32)[0]
        space = self.observation_space
        is_pixels = space.dtype == np.uint8
        assert isinstance(self.learner, Learner)
        self.learner.reset(make_network(space.shape, self.num_actions, self.config, int(seed), is_pixels=is_pixels))

    def checkpoint(self, *, for_acting: bool = False) -> Checkpoint:
        """Return all of the agent except its replay, as a checkpoint holds it; `for_acting` is explained in `save`."""
        space = self.observation_space
        state = {
            "pixelq": version("pixelq"),
            "config": self.config.to_dict(),
            "observation_space": {"shape": space.shape, "dtype": str(space.dtype)},
            "num_actions": self.num_actions,
            "seed": self.seed,
            "env": self.env_id,
            "protocol": self.protocol,
            **({ARGUMENTS: self.env_arguments} if self.env_arguments else {}),
            "step": self.step,
            "updates": self.updates,
            "episodes": self.episodes,
            "rng": self.rng.bit_generator.state,
            **({ACTION_MASKS: True} if self.action_masks else {}),
        }
        tensors = None if for_acting else self.learner.tensors() | {"noise.state": self.noise.get_state()}
        return Checkpoint(state, dict(self.network.state_dict()), tensors)

    def save(self, path: str | os.PathLike[str], *, for_acting: bool = False) -> None:
        """Write the agent, without its replay, as a checkpoint folder, and replace an older one there.

        Args:
            path: The folder.
            for_acting: Whether to save the online network only, with Adam a quarter of the size. Such an agent acts as
                the whole one. If it learns on, its target network is a copy of the online one and its optimiser new.

        Raises:
            InvalidCheckpoint: If something else than a checkpoint lies at `path`.
            OSError: If it cannot be written.
        """
        write_checkpoint(user_path(path), self.checkpoint(for_acting=for_acting))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over what a checkpoint holds of an agent; errors as in `Policy.restore`."""
        super().restore(checkpoint)
        self.ongoing = None
        if checkpoint.learner is None:
            self.learner.start_anew()
        else:
            tensors = dict(checkpoint.learner)
            restore_generator(self.noise, tensors, "noise.state")
            del tensors["noise.state"]
            self.learner.load_tensors(tensors)
        self.updates, self.episodes = (count(checkpoint.state, name) for name in ("updates", "episodes"))

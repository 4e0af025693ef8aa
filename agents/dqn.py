"""The agent: a Q-network that acts, learns, and is saved and loaded."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from pixelq.agents.acting.exploration import epsilon_greedy
from pixelq.agents.acting.memory import Memory, PolicyState, memory_of, state_of
from pixelq.agents.acting.network import check_weights, make_network
from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.device import resolve_device
from pixelq.agents.config.schedules import epsilons_at
from pixelq.agents.errors import InvalidCheckpoint, InvalidConfig
from pixelq.agents.experience.replay import Replay, make_replay
from pixelq.agents.learning.learner import Learner
from pixelq.agents.storage.checkpoint import Checkpoint, one_line, read_checkpoint, write_checkpoint
from pixelq.agents.storage.pretrained import find_policy
from pixelq.agents.storage.validation import count, flicker_of, observations, restore_generator, unbounded_box
from pixelq.networks import Noise, QNetwork


class DQN:
    """Deep Q-learning (Mnih et al. 2015) with the parts that its configuration names.

    Args:
        observation_space: a Box; images are uint8, channels first or last.
        action_space: Discrete.
        config: hyperparameters; a preset's, or your own.
        device: ``auto`` takes a GPU where there is one; else a PyTorch device name.
        seed: of the weights, the exploration and the sampling.

    Raises:
        InvalidConfig: spaces that Q-learning or the encoder cannot work with, or a device that is not there.
    """

    def __init__(
        self,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        config: AgentConfig | None = None,
        *,
        device: str | torch.device = "auto",
        seed: int = 0,
    ) -> None:
        if not isinstance(observation_space, gymnasium.spaces.Box):
            raise InvalidConfig(f"the observation space is {observation_space}; it must be a Box")
        if not isinstance(action_space, gymnasium.spaces.Discrete) or action_space.start != 0:
            raise InvalidConfig(f"the action space is {action_space}; Q-learning needs a Discrete one that starts at 0")
        if seed < 0:
            raise InvalidConfig(f"seed is {seed}; it must be 0 or more")
        self.observation_space, self.action_space = observation_space, action_space
        self.num_actions = int(action_space.n)
        self.config = config or AgentConfig()
        self.device = resolve_device(device)
        self.seed = seed
        network_seed, action_seed, self._replay_seed, noise_seed, learner_seed, self._reset_seed = (
            int(s) for s in np.random.SeedSequence(seed).generate_state(6, np.uint32)
        )
        network = make_network(observation_space.shape, self.num_actions, self.config, network_seed)
        self.learner = Learner(network.to(self.device), self.config, learner_seed)
        self.noise = torch.Generator(self.device).manual_seed(noise_seed)  # of noisy layers when acting
        self.replay: Replay | None = None
        self.rng = np.random.default_rng(action_seed)
        self.step = 0
        """Agent steps taken while learning."""
        self.updates = 0
        self.episodes = 0
        self.env_id: str | None = None
        self.protocol: str | None = None
        self.flicker = 0.0
        """Probability that a frame of the environments is black."""

    @property
    def network(self) -> QNetwork:
        """The online network."""
        return self.learner.network

    @property
    def epsilon(self) -> float:
        """Probability of a random action at the present step of learning; of a ladder, that of one environment."""
        return float(self.epsilons(1)[0])

    def epsilons(self, num_envs: int) -> NDArray[np.float64]:
        """The same in each of N environments, [N]."""
        return epsilons_at(self.config, self.step, num_envs)

    def fits(self, envs: VectorEnv) -> bool:
        """Whether the environments' observations and actions are those that the agent was made for."""
        theirs, own = envs.single_observation_space, self.observation_space
        return (theirs.shape, theirs.dtype, envs.single_action_space) == (own.shape, own.dtype, self.action_space)

    def make_memory(self, num_envs: int) -> Memory | None:
        """What a network with an LSTM carries from step to step in N environments that start; None without one."""
        return None if self.network.lstm is None else Memory(self.network, num_envs)

    def q_values(self, obs: NDArray[Any], memory: Memory | None = None) -> Tensor:
        """Values float32 [B, A] of every action at observations [B, *observation]; noisy layers without noise.

        A network with an LSTM goes on from ``memory``, which takes the observations in; without one, it takes each
        of them for an episode's first.
        """
        return self._q(self._batched(np.asarray(obs))[0], memory)

    @torch.no_grad()
    def _q(self, obs: NDArray[Any] | Tensor, memory: Memory | None = None, noise: Noise | None = None) -> Tensor:
        obs = torch.as_tensor(obs, device=self.device)
        memory = memory or self.make_memory(len(obs))
        q = self.network.q(obs, noise) if memory is None else memory.read(self.network, obs, noise)
        return q.float()

    def act(
        self,
        obs: NDArray[Any] | Tensor,
        epsilon: float | NDArray[np.float64],
        memory: Memory | None = None,
        noise: Noise | None = None,
    ) -> NDArray[np.int64]:
        """ε-greedy actions int64 [N] at observations [N, *observation], one coin for each environment.

        Args:
            obs: the observations.
            epsilon: ε, or one for each environment [N].
            memory: of a network with an LSTM, as in ``q_values``.
            noise: of noisy layers.
        """
        if memory is None and np.min(epsilon) >= 1.0:
            return epsilon_greedy(np.zeros(obs.shape[0], dtype=np.int64), self.num_actions, epsilon, self.rng)
        obs = obs if isinstance(obs, Tensor) else self._batched(obs)[0]
        greedy: NDArray[np.int64] = self._q(obs, memory, noise).argmax(1).cpu().numpy()
        if np.max(epsilon) <= 0.0:  # evaluations leave the generator, and so the training, as it is
            return greedy
        return epsilon_greedy(greedy, self.num_actions, epsilon, self.rng)

    def explore(self, obs: NDArray[Any] | Tensor, memory: Memory | None = None) -> NDArray[np.int64]:
        """Actions int64 [N] of the present step of learning: its ε, and noise of its own for each environment."""
        num_envs = obs.shape[0]
        return self.act(obs, self.epsilons(num_envs), memory, self.network.draw_noise(num_envs, self.noise))

    def reset_network(self) -> None:
        """Resets the networks towards newly drawn weights, as ``reset_every`` asks; see ``Learner.reset``."""
        seed = np.random.SeedSequence([self._reset_seed, self.updates]).generate_state(1, np.uint32)[0]
        shape = self.observation_space.shape
        self.learner.reset(make_network(shape, self.num_actions, self.config, int(seed)))

    def predict(
        self,
        observation: NDArray[Any],
        state: PolicyState | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
        *,
        reward: NDArray[Any] | None = None,
    ) -> tuple[NDArray[np.int64], PolicyState | None]:
        """Actions, by the protocol of stable-baselines3.

        Args:
            observation: one observation or a batch [B, *observation]; images also with their channels last.
            state: what the last call returned; None at the beginning. A policy without memory hands it back.
            episode_start: bool [B], where an episode, and so the memory, begins; None: nowhere but at the beginning.
            deterministic: greedy; else as ``explore`` acts at the present step of learning.
            reward: [B], raw, of the last step, for a policy with ``lstm_last_reward``; None: 0, with a warning.

        Returns:
            actions int64 [B] (or [], for one observation), and the state.

        Raises:
            ValueError: the observation does not fit the observation space, the state is another policy's, or what
                is given is of another number of environments.
        """
        obs, is_single = self._batched(np.asarray(observation))
        memory = memory_of(self.network, len(obs), state, episode_start, reward)
        actions = self.act(obs, 0.0, memory) if deterministic else self.explore(obs, memory)
        return (actions[0] if is_single else actions), (state if memory is None else state_of(memory, actions))

    def _batched(self, obs: NDArray[Any]) -> tuple[NDArray[Any], bool]:
        """Observations [B, *observation] and whether there was but one."""
        shape = self.observation_space.shape
        for axes in (shape, (*shape[1:], shape[0]) if len(shape) == 3 else shape):
            if obs.shape in (axes, (*obs.shape[:1], *axes)):
                is_single = obs.shape == axes
                obs = obs[None] if is_single else obs
                obs = obs if axes == shape else np.moveaxis(obs, -1, 1)
                is_pixels = self.observation_space.dtype == np.uint8  # which the encoder scales
                return obs.astype(np.uint8 if is_pixels else np.float32, copy=False), is_single
        raise ValueError(f"the observation has shape {obs.shape}; it must be {shape} or (batch, *{shape})")

    def learn(self, envs: VectorEnv, steps: int, out: str | os.PathLike[str] | None = None, **options: Any) -> DQN:
        """Trains for ``steps`` more agent steps, summed over the environments.

        Args:
            envs: next-step-autoreset environments, as ``pixelq.envs.make_vec`` makes them.
            steps: agent steps; an Atari step is four frames.
            out: folder of the run: configuration, metrics, checkpoints; None writes nothing.
            options: the fields of ``LearnOptions``, such as evaluation_envs or checkpoint_every.

        Raises:
            InvalidConfig: the replay is too small for the environments, or an option is wrong.
            InvalidRun: ``out`` cannot be written or holds another run.
            TrainingDiverged: the loss is no longer finite; the last good checkpoint is kept.
        """
        from pixelq.agents.training.loop import train
        from pixelq.agents.training.options import LearnOptions

        train(self, envs, steps, LearnOptions(out=None if out is None else Path(out), **options))
        return self

    def make_replay(self, num_envs: int, frame_stack: int) -> Replay:
        """The replay for so many environments and stacked frames: the one that is there if it fits, else a new one."""
        old = self.replay
        if old is None or (old.num_envs, old.frame_stack) != (num_envs, frame_stack):
            self.replay = make_replay(
                self.observation_space.shape,
                np.dtype(self.observation_space.dtype),
                self.config,
                num_envs=num_envs,
                frame_stack=frame_stack,
                device=self.device,
                seed=self._replay_seed,
            )
        assert self.replay is not None
        return self.replay

    def checkpoint(self, *, for_acting: bool = False) -> Checkpoint:
        """All of the agent but its replay, as a checkpoint holds it; ``for_acting`` as ``save`` has it."""
        space = self.observation_space
        state = {
            "pixelq": version("pixelq"),
            "config": self.config.to_dict(),
            "observation_space": {"shape": space.shape, "dtype": str(space.dtype)},
            "num_actions": self.num_actions,
            "seed": self.seed,
            "env": self.env_id,
            "protocol": self.protocol,
            "flicker": self.flicker,
            "step": self.step,
            "updates": self.updates,
            "episodes": self.episodes,
            "rng": self.rng.bit_generator.state,
        }
        tensors = None if for_acting else self.learner.tensors() | {"noise.state": self.noise.get_state()}
        return Checkpoint(state, dict(self.network.state_dict()), tensors)

    def save(self, path: str | os.PathLike[str], *, for_acting: bool = False) -> None:
        """Writes the agent, without its replay, as a checkpoint folder; an older one there is replaced.

        Args:
            path: the folder.
            for_acting: only the online network, with Adam a quarter of the size. Such an agent acts as the whole one;
                it learns on from a target network that is a copy of the online one, and from an optimiser that starts.

        Raises:
            InvalidCheckpoint: something else than a checkpoint lies at ``path``.
            OSError: it cannot be written.
        """
        write_checkpoint(Path(path), self.checkpoint(for_acting=for_acting))

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str | torch.device = "auto") -> DQN:
        """The agent of a checkpoint, or of a run: its best checkpoint, or else its latest.

        Args:
            path: the folder, or the name of a policy that comes with the package, such as ``demo``.
            device: ``auto`` takes a GPU where there is one; else a PyTorch device name.

        Raises:
            InvalidCheckpoint: it is missing, damaged, or its weights are those of another network.
            InvalidConfig: the device is not there.
        """
        device = resolve_device(device)
        checkpoint = read_checkpoint(find_policy(path))
        state = checkpoint.state
        try:
            shape, dtype = observations(state["observation_space"])
            num_actions, config = count(state, "num_actions"), AgentConfig.from_dict(state["config"])
            check_weights(checkpoint.network, shape, num_actions, config)  # before memory is taken for as many
            box, actions = unbounded_box(shape, dtype), gymnasium.spaces.Discrete(num_actions)
            agent = cls(box, actions, config, device=device, seed=count(state, "seed", most=2**128))
            agent.network.load_state_dict(checkpoint.network)
            if checkpoint.learner is None:
                agent.learner.sync_target()
            else:
                restore_generator(agent.noise, checkpoint.learner, "noise.state")
                del checkpoint.learner["noise.state"]
                agent.learner.load_tensors(checkpoint.learner)
            agent.rng.bit_generator.state = state["rng"]
            agent.step, agent.updates, agent.episodes = (count(state, name) for name in ("step", "updates", "episodes"))
            agent.env_id, agent.protocol = (None if state[n] is None else str(state[n]) for n in ("env", "protocol"))
            agent.flicker = flicker_of(state)
        except (LookupError, TypeError, ValueError, RuntimeError, ArithmeticError, MemoryError) as error:
            raise InvalidCheckpoint(f"{path} does not describe an agent of this version: {one_line(error)}") from error
        return agent

"""The policy: a Q-network that acts."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelq.agents.acting.exploration import epsilon_greedy
from pixelq.agents.acting.memory import Memory, PolicyState, memory_of, state_of
from pixelq.agents.acting.network import check_memory, check_weights, make_network, set_options
from pixelq.agents.config.agent_config import AgentConfig, check_changeable, replaced
from pixelq.agents.config.at_step import epsilons_at
from pixelq.agents.config.described import described
from pixelq.agents.config.device import resolve_device, sent
from pixelq.agents.config.integers import MOST_SEED, checked_integer
from pixelq.agents.config.parts import handed_over, is_handed_over
from pixelq.agents.config.presets import config_of
from pixelq.agents.config.seeds import agent_seeds
from pixelq.agents.errors import InvalidCheckpoint, InvalidConfig
from pixelq.agents.storage.checkpoint import Checkpoint, read_checkpoint, read_description
from pixelq.agents.storage.environments import ARGUMENTS, FromFile, env_arguments
from pixelq.agents.storage.json_values import check_types
from pixelq.agents.storage.pretrained import find_policy
from pixelq.agents.storage.rules import rules_of
from pixelq.agents.storage.validation import count, describing, observations, unbounded_box
from pixelq.networks import Noise, among_allowed

MOST_ACTIONS = 2**15 - 1
"""Most actions, because the replay stores an action as 16 bits."""
ACTION_MASKS = "action_masks"
"""Key in agent.json that marks a policy trained with action masks."""


class Policy:
    """A Q-network that acts, without a target network, an optimiser or a replay.

    Evaluation, films and the report need no more than this. `Agent` adds learning.

    Args:
        observation_space: A Box. Images are uint8, with channels first or last.
        action_space: A Discrete space that starts at 0.
        config: Hyperparameters, or the name of a preset; None for the defaults of `AgentConfig`.
        device: `auto` for a GPU if there is one, or the name of a PyTorch device.
        seed: Seed of the weights, the exploration and the sampling.
        encoder: An `nn.Module` that maps observations [B, *shape] to features float32 [B, D], in place of the
            configuration's encoder; see `pixelq.agents.register_encoder`, which also tells how the command line finds
            one. The policy has a copy, `network.encoder`, whose weights are those of the module and not the seed's.

    Attributes:
        network: The online network. It is never replaced, only changed in place.
        step: Number of agent steps taken while learning, which the schedules depend on.
        env_id: ID of the environment of the training; None if it has none.
        protocol: Rules of the training, such as `sticky`; see `pixelq.envs.Protocol.rules`.
        env_arguments: Arguments of `pixelq.envs.make_vec` with which the environments of the training are made again,
            as JSON values.
        action_masks: Whether the environments of the training say which actions are allowed.

    Raises:
        InvalidConfig: If Q-learning or the encoder cannot work with the spaces, there are too many actions, there is no
            such preset or device, the seed is out of range, or there is not enough memory.
    """

    reads_learner: ClassVar[bool] = False
    """Whether `load` reads the target network and the optimiser too."""
    algorithm: ClassVar[str | None] = None
    """The `algorithm` that a configuration must have; None for any."""
    wants_values: bool = False
    """Whether q-values are computed even where all actions are random, and kept."""

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
        if not isinstance(observation_space, gymnasium.spaces.Box):
            raise InvalidConfig(f"the observation space must be a Box, got {observation_space}")
        if not isinstance(action_space, gymnasium.spaces.Discrete) or action_space.start != 0:
            raise InvalidConfig(f"the action space must be a Discrete space that starts at 0, got {action_space}")
        if action_space.n > MOST_ACTIONS:
            raise InvalidConfig(f"there must be at most {MOST_ACTIONS:,} actions, got {action_space.n:,}")
        seed = checked_integer("seed", seed, 0, MOST_SEED)
        self.observation_space, self.action_space = observation_space, action_space
        self.num_actions = int(action_space.n)
        self._config = self._own(config)
        if encoder is not None:
            if not isinstance(encoder, nn.Module):
                raise InvalidConfig(f"encoder must be an nn.Module or None, got {encoder!r:.80}")
            self._config = replaced(self._config, {"encoder": handed_over(encoder)})
        self.device = resolve_device(device)
        self.seed = seed
        self.seeds = agent_seeds(seed)
        check_memory(observation_space.shape, self.num_actions, self._config, self.device, learns=self.reads_learner)
        network = make_network(
            observation_space.shape,
            self.num_actions,
            self.config,
            self.seeds.network,
            is_pixels=observation_space.dtype == np.uint8,
            encoder=encoder,
        )
        self.network = network.to(self.device)
        self.noise = torch.Generator(self.device).manual_seed(self.seeds.noise)  # of noisy layers when acting
        self.rng = np.random.default_rng(self.seeds.actions)
        self.step = 0
        self.env_id: str | None = None
        self.protocol: str | None = None
        self.env_arguments: dict[str, Any] = {}
        self.action_masks = False

    @classmethod
    def _own(cls, config: AgentConfig | str | None) -> AgentConfig:
        """Return the configuration that is meant, which must be of this class's algorithm."""
        if config is None:
            return AgentConfig() if cls.algorithm is None else AgentConfig.from_dict({"algorithm": cls.algorithm})
        config = config_of(config)
        if cls.algorithm not in (None, config.algorithm):
            raise InvalidConfig(
                f"algorithm must be {cls.algorithm} for a {cls.__name__}, got {config.algorithm}; "
                f"make a {config.algorithm.upper()} of this configuration"
            )
        return config

    def __repr__(self) -> str:
        """Return where the policy comes from, how far it has learned, and its configuration in few words."""
        return (
            f"{type(self).__name__}(env={self.env_id!r}, protocol={self.protocol!r}, step={self.step}, "
            f"device={str(self.device)!r}, seed={self.seed}, config={described(self._config)})"
        )

    @property
    def config(self) -> AgentConfig:
        """Hyperparameters; those that can be replaced in a living policy are replaced everywhere, as by `replace`.

        Raises:
            InvalidConfig: If another field is replaced, from which the policy has been built.
        """
        return self._config

    @config.setter
    def config(self, config: AgentConfig) -> None:
        """Replace the configuration."""
        if not isinstance(config, AgentConfig):
            raise InvalidConfig(
                f"config must be an AgentConfig, got {config!r:.80}; agent.replace(...) changes single settings"
            )
        check_changeable(self._config, config, type(self).__name__)
        self.configure(config)

    def replace(self, **changes: Any) -> Self:
        """Change settings everywhere they are held, from the next step or update on, and return the policy itself.

        In `policy.replace(learning_rate=Linear(1e-3, 1e-5, 100_000), gamma=0.997)`, the weights, the optimiser's
        moments, the replay and its priorities are kept. Steps of schedules are counted from `learning_starts` all the
        same. With a greater `n_step`, rows of the replay whose returns are not complete wait until they are.

        Args:
            changes: Fields of the configuration with their new values; see `pixelq.agents.AgentConfig`.

        Raises:
            InvalidConfig: If a field does not exist, is one from which the policy was built, or has such a value that
                the configuration makes no sense, or the replay is too small for it. Then nothing has changed.
        """
        self.config = replaced(self._config, changes)
        return self

    def configure(self, config: AgentConfig) -> None:
        """Replace the configuration without a check, for settings from which nothing has been built yet."""
        self._config = config
        set_options(self.network.head, config)

    @property
    def epsilon(self) -> float:
        """Probability of a random action at the current step; with an ε for each environment, that of a single one."""
        return float(self.epsilons(1)[0])

    def epsilons(self, num_envs: int) -> NDArray[np.float64]:
        """Return the probability of a random action in each of N environments, [N]."""
        return epsilons_at(self.config, self.step, num_envs)

    def fits(self, envs: VectorEnv) -> bool:
        """Return whether the environments have the observations and actions that the policy was made for."""
        theirs, own, actions = envs.single_observation_space, self.observation_space, envs.single_action_space
        if not isinstance(actions, gymnasium.spaces.Discrete) or actions.start != 0:
            return False
        return (theirs.shape, theirs.dtype, int(actions.n)) == (own.shape, own.dtype, self.num_actions)

    def make_memory(self, num_envs: int) -> Memory | None:
        """Return a new LSTM state for N environments whose episodes start; None for a network without an LSTM."""
        return None if self.network.lstm is None else Memory(self.network, num_envs)

    def q_values(
        self,
        obs: NDArray[Any],
        memory: Memory | None = None,
        noise: Noise | None = None,
        action_masks: NDArray[Any] | None = None,
    ) -> Tensor:
        """Return the values float32 [B, A] of all actions at observations [B, *observation].

        Args:
            obs: The observations.
            memory: LSTM state, which is read and updated; without one, each observation counts as an episode's first.
            noise: Noise of noisy layers; None for none.
            action_masks: Whether each action is allowed, [B, A]; the values of forbidden ones are −∞. None allows all.

        Raises:
            ValueError: If the observations do not fit the observation space, or the masks not the observations.
        """
        batch = self._batched(np.asarray(obs))[0]
        return self._among_allowed(self._q(batch, memory, noise), self._checked_masks(action_masks, len(batch)))

    @torch.no_grad()
    def _q(self, obs: NDArray[Any] | Tensor, memory: Memory | None, noise: Noise | None = None) -> Tensor:
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
        masks: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int64]:
        """Return ε-greedy actions int64 [N] at observations [N, *observation].

        Each environment decides for itself whether to act at random.

        Args:
            obs: The observations.
            epsilon: ε, or one for each environment, [N].
            memory: LSTM state, as in `q_values`.
            noise: Noise of noisy layers.
            masks: Whether each action is allowed, bool [N, A], at least one in each environment; None allows all.
        """
        if memory is None and np.min(epsilon) >= 1.0 and not self.wants_values:
            return epsilon_greedy(np.zeros(obs.shape[0], dtype=np.int64), self.num_actions, epsilon, self.rng, masks)
        if not isinstance(obs, Tensor):
            obs = self._batched(obs)[0]
        q = self._among_allowed(self._q(obs, memory, noise), masks)
        if self.wants_values:
            self.keep_values(obs, q)
        greedy: NDArray[np.int64] = q.argmax(1).cpu().numpy()
        if np.max(epsilon) <= 0.0:  # evaluations leave the generator, and so the training, as it is
            return greedy
        return epsilon_greedy(greedy, self.num_actions, epsilon, self.rng, masks)

    def keep_values(self, obs: NDArray[Any] | Tensor, q: Tensor) -> None:
        """Keep the q-values [N, A] with which the actions at observations were chosen, if `wants_values`."""

    def _among_allowed(self, q: Tensor, masks: NDArray[np.bool_] | None) -> Tensor:
        return q if masks is None else among_allowed(q, sent(masks, self.device))

    def explore(
        self, obs: NDArray[Any] | Tensor, memory: Memory | None = None, masks: NDArray[np.bool_] | None = None
    ) -> NDArray[np.int64]:
        """Return actions int64 [N] as the current step of learning takes them, with its ε and noise; see `act`."""
        num_envs = obs.shape[0]
        return self.act(obs, self.epsilons(num_envs), memory, self.network.draw_noise(num_envs, self.noise), masks)

    def predict(
        self,
        observation: NDArray[Any],
        state: PolicyState | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
        *,
        reward: NDArray[Any] | None = None,
        action_masks: NDArray[Any] | None = None,
    ) -> tuple[NDArray[np.int64], PolicyState | None]:
        """Return actions and the next state, with the signature of stable-baselines3.

        Args:
            observation: One observation, or a batch [B, *observation]; images may have their channels last.
            state: The state that the last call returned; None at the beginning. A policy without an LSTM returns it
                unchanged.
            episode_start: bool [B], True where an episode, and so the memory, starts; None for only at the beginning.
            deterministic: Whether to act greedily; if False, as `explore` does.
            reward: Raw reward of the last step, [B], for a policy with `lstm_last_reward`; None for 0, with a warning.
            action_masks: Whether each action is allowed, [B, A] or [A], as in sb3-contrib; None allows all, with a
                warning if the policy was trained with masks.

        Returns:
            Actions int64 [B] ([] for one observation), and the state.

        Raises:
            ValueError: If the observation does not fit the observation space, such as floats for pixels, there is none,
                the state belongs to another policy, an argument has another number of environments, or a mask allows
                nothing.
        """
        obs, is_single = self._batched(np.asarray(observation))
        masks = self._checked_masks(action_masks, len(obs))
        if masks is None and self.action_masks:
            sentence = "this policy was trained with action masks, but predict was called without them, and may choose "
            warnings.warn(sentence + "forbidden actions; pass the masks as action_masks=", stacklevel=2)
        memory = memory_of(self.network, len(obs), state, episode_start, reward)
        actions = self.act(obs, 0.0, memory, None, masks) if deterministic else self.explore(obs, memory, masks)
        return (actions[0] if is_single else actions), (state if memory is None else state_of(memory, actions))

    def _checked_masks(self, masks: NDArray[Any] | None, batch: int) -> NDArray[np.bool_] | None:
        """Return action masks, [B, A] or of one observation [A], as bool [B, A]; errors as of `envs.ActionMasks`."""
        if masks is None:
            return None
        given, shape = np.asarray(masks), (batch, self.num_actions)
        if given.shape not in (shape, shape[1:] if batch == 1 else shape):
            raise ValueError(f"action_masks must be of shape {shape}, got {given.shape}")
        if given.dtype.kind not in "biuf" or not ((given == 0) | (given == 1)).all():
            raise ValueError(f"action_masks must be of 0 and 1, got {given.tolist()!r:.80}")
        allowed = given.reshape(shape).astype(np.bool_)
        if not allowed.any(1).all():
            first = np.flatnonzero(~allowed.any(1))[0]
            raise ValueError(f"action_masks must allow an action, got none for observation {first}")
        return allowed

    def _batched(self, obs: NDArray[Any]) -> tuple[NDArray[Any], bool]:
        """Return observations as [B, *observation], and whether there was only one."""
        if not obs.flags.writeable or min(obs.strides, default=0) < 0:  # which PyTorch warns of, or cannot read
            obs = obs.copy()
        shape = self.observation_space.shape
        for axes in (shape, (*shape[1:], shape[0]) if len(shape) == 3 else shape):
            if obs.shape in (axes, (*obs.shape[:1], *axes)):
                if obs.size == 0:
                    raise ValueError(f"there must be at least one observation, got shape {obs.shape}")
                is_single = obs.shape == axes
                obs = obs[None] if is_single else obs
                obs = obs if axes == shape else np.moveaxis(obs, -1, 1)
                is_pixels = self.observation_space.dtype == np.uint8  # which the encoder scales
                return _pixels(obs) if is_pixels else obs.astype(np.float32, copy=False), is_single
        batch = f"(batch, {', '.join(map(str, shape))})"
        raise ValueError(f"the observation must have shape {shape} or {batch}, got {obs.shape}")

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        device: str | torch.device = "auto",
        *,
        encoder: nn.Module | None = None,
        **changes: Any,
    ) -> Self:
        """Load a checkpoint, the best (or else the latest) checkpoint of a run, or a pretrained policy.

        A `Policy` does not read the learner's file, which also has the state of noisy layers' generator. So its
        `explore` draws other noise than that of a loaded `DQN`.

        Args:
            path: The folder, the name of a pretrained policy such as `demo`, or `hf://ORG/NAME` on the Hugging Face
                Hub, also with a revision as `hf://ORG/NAME@REVISION`.
            device: `auto` for a GPU if there is one, or the name of a PyTorch device.
            encoder: Module like the one that was handed over when the agent was made; None for any other agent.
            changes: Settings to change, as by `replace`. A schedule that is a function of the user's own must be given
                here again to learn on: a file keeps its name alone, and whether it is the same is not checked.

        Raises:
            InvalidCheckpoint: If it is missing or damaged, its weights belong to another network, or a part of its
                network is not registered or handed over.
            InvalidConfig: If there is no such device, a change cannot be made, or a function must be given again.
            MissingExtra: If the policy is on the Hub and `huggingface_hub` is not installed.
        """
        device = resolve_device(device)
        folder = find_policy(path)
        state, weights = read_description(folder)
        with describing(path):
            shape, dtype = observations(state["observation_space"])
            num_actions, saved = count(state, "num_actions"), AgentConfig.from_dict(state["config"])
            if cls.algorithm not in (None, saved.algorithm):
                other = saved.algorithm.upper()
                raise InvalidCheckpoint(f"{path} holds a {other} and no {cls.__name__}; load it with {other}.load")
            _check_handed_over(path, saved, encoder)
        config = replaced(saved, changes)
        check_changeable(saved, config, cls.__name__)
        if cls.reads_learner:
            config.check_given()
        with describing(path):
            check_weights(weights, shape, num_actions, config)  # before memory is allocated for them
            checkpoint = read_checkpoint(folder, learner=cls.reads_learner)
            box, actions = unbounded_box(shape, dtype), gymnasium.spaces.Discrete(num_actions)
            seed = count(state, "seed", most=MOST_SEED)
            policy = cls(box, actions, config, device=device, seed=seed, encoder=encoder)
            if config.has_own_parts:
                _check_own_parts(path, weights, policy.network, "registered parts" if encoder is None else "encoder")
            policy.restore(checkpoint)
        return policy

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over what a checkpoint holds of a policy.

        Raises:
            LookupError, TypeError, ValueError, RuntimeError: If it belongs to another policy.
        """
        state = checkpoint.state
        self.network.load_state_dict(checkpoint.network)
        self.rng.bit_generator.state = state["rng"]
        self.step = count(state, "step")
        check_types(state, {"env": str | None})
        self.env_id = None if state["env"] is None else FromFile(state["env"])
        self.env_arguments = env_arguments({ARGUMENTS: state.get(ARGUMENTS, {})})
        self.protocol = rules_of(state)
        check_types(state, {ACTION_MASKS: bool})
        self.action_masks = bool(state.get(ACTION_MASKS, False))


def _check_handed_over(path: str | os.PathLike[str], config: AgentConfig, encoder: nn.Module | None) -> None:
    """Check that an encoder is handed over to `load` if, and only if, one was when the agent was made.

    Raises:
        InvalidCheckpoint: If it is missing, of another class, or not wanted.
    """
    given = None if encoder is None else handed_over(encoder)
    if is_handed_over(config.encoder) and given is None:
        raise InvalidCheckpoint(
            f"{path} was trained with an encoder that was handed over, {config.encoder}; in Python, load it with "
            "encoder=module; for the command line, train with a registered encoder (pixelq.agents.register_encoder)"
        )
    if given is not None and given != config.encoder:
        raise InvalidCheckpoint(f"{path} was trained with the encoder {config.encoder}, got encoder={given}")


def _check_own_parts(path: str | os.PathLike[str], saved: Mapping[str, Tensor], network: nn.Module, what: str) -> None:
    """Check that a network with parts of the user's own has the names and shapes of the saved weights.

    Raises:
        InvalidCheckpoint: If it has others.
    """
    shapes = {name: [*tensor.shape] for name, tensor in network.state_dict().items()}
    for name in [*shapes, *saved]:
        theirs, ours = [*saved[name].shape] if name in saved else "none", shapes.get(name, "none")
        if theirs != ours:
            raise InvalidCheckpoint(
                f"{path} cannot be loaded: the saved weights must fit the {what} given here, got {name} of shape "
                f"{theirs} in the file and {ours} in the network"
            )


def _pixels(obs: NDArray[Any]) -> NDArray[np.uint8]:
    """Return observations of pixels as uint8.

    Raises:
        ValueError: If they hold anything but whole numbers in [0, 255], or may be on another scale: the encoder divides
            them by 255, so those in [0, 1] would all look black.
    """
    if obs.dtype == np.uint8:
        return obs
    if obs.dtype.kind not in "iuf":
        raise ValueError(f"the observation must be pixels of type uint8, got {obs.dtype}")
    if obs.size:
        low, high = obs.min(), obs.max()
        if not (low >= 0 and high <= 255):
            raise ValueError(f"the observation must be pixels in [0, 255], got {low} to {high}")
        if obs.dtype.kind == "f" and (0 < high <= 1 or (obs != np.rint(obs)).any()):
            raise ValueError(
                f"the observation must be whole pixels in [0, 255], got {obs.dtype} from {low} to {high}; "
                "if they are in [0, 1], give np.rint(255 * observation)"
            )
    return obs.astype(np.uint8)

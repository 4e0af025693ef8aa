"""Parallelised Q-learning: an agent that trains itself from rollouts."""

from __future__ import annotations

from pixelq.agents.experience.rollout import Rollout
from pixelq.agents.learning.rollout_learner import RolloutLearner
from pixelq.agents.trainable import Trainable


class PQN(Trainable):
    """Parallelised Q-learning (Gallici et al. 2025) with the parts that its configuration names.

    Many environments play `rollout_length` steps each. The network learns from these steps for some epochs, towards
    λ-returns, and then they are forgotten: there is neither a replay nor a target network. Layer normalisation keeps
    it stable. With `kept_rollouts` and `past_rollouts` it also learns from some of its last rollouts again.

    Args:
        observation_space: A Box. Images are uint8, with channels first or last.
        action_space: A Discrete space that starts at 0.
        config: Hyperparameters with the algorithm `pqn`, or the name of such a preset; None for the defaults of
            `AgentConfig`.
        device: `auto` for a GPU if there is one, or the name of a PyTorch device.
        seed: Seed of the weights, the exploration and the order of the minibatches.
        encoder: An `nn.Module` in place of the configuration's encoder; see `Policy`.

    Raises:
        InvalidConfig: If Q-learning or the encoder cannot work with the spaces, there are too many actions, there is no
            such preset or device, the configuration is for a `DQN`, the seed is out of range, or there is not enough
            memory.
    """

    algorithm = "pqn"
    learner: RolloutLearner
    replay: Rollout | None

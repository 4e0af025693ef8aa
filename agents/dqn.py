"""Deep Q-learning: an agent that trains itself from a replay."""

from __future__ import annotations

from pixelq.agents.experience.replay import Replay
from pixelq.agents.learning.learner import Learner
from pixelq.agents.trainable import Trainable


class DQN(Trainable):
    """Deep Q-learning (Mnih et al. 2015) with the parts that its configuration names.

    A few environments write their steps to a replay. The network learns from batches drawn from it, towards the values
    of a target network, which follows it slowly and so keeps it stable.

    Args:
        observation_space: A Box. Images are uint8, with channels first or last.
        action_space: A Discrete space that starts at 0.
        config: Hyperparameters with the algorithm `dqn`, or the name of such a preset; None for the defaults of
            `AgentConfig`.
        device: `auto` for a GPU if there is one, or the name of a PyTorch device.
        seed: Seed of the weights, the exploration and the sampling.
        encoder: An `nn.Module` in place of the configuration's encoder; see `Policy`.

    Raises:
        InvalidConfig: If Q-learning or the encoder cannot work with the spaces, there are too many actions, there is no
            such preset or device, the configuration is for a `PQN`, the seed is out of range, or there is not enough
            memory.
    """

    algorithm = "dqn"
    learner: Learner
    replay: Replay | None

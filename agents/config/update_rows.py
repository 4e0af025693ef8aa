"""The number of observations that an update learns from."""

from __future__ import annotations

from pixelq.agents.config.agent_config import AgentConfig


def update_rows(config: AgentConfig, num_envs: int, *, burn_in: bool = True) -> int:
    """Return the observations of an update: those of a batch, or of the largest minibatch of a rollout.

    Args:
        config: The configuration. With an LSTM, whole sequences are read; of a rollout they are those of environments.
        num_envs: Number of environments, on which the size of a minibatch depends.
        burn_in: Whether to count the steps of a sequence that are read and not learned from.
    """
    if config.algorithm == "dqn":
        read = 1 if config.lstm is None else config.sequence_length - (0 if burn_in else config.burn_in)
        return config.batch_size * read
    if config.lstm is None:
        return -(-config.rollout_length * num_envs // config.minibatches)
    return config.rollout_length * -(-num_envs // config.minibatches)


def least_num_envs(config: AgentConfig) -> int:
    """Return the least number of environments with which every minibatch of a rollout has a row; 1 without rollouts."""
    if config.algorithm == "dqn":
        return 1
    return config.minibatches if config.lstm is not None else -(-config.minibatches // config.rollout_length)

"""Random actions in evaluations."""

from __future__ import annotations

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.envs import GYMNASIUM, Protocol


def evaluation_epsilon(config: AgentConfig, protocol: Protocol | None) -> float:
    """Return the probability of a random action in evaluations: the agent's own, or else the protocol's.

    Args:
        config: Configuration of the agent.
        protocol: Rules that are played by; outside Atari, and for None, evaluations are greedy.
    """
    if protocol is None or protocol == GYMNASIUM:
        return 0.0
    return protocol.evaluation_epsilon if config.evaluation_epsilon is None else config.evaluation_epsilon

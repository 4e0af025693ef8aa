"""Which class of agent a configuration, or what was saved, is of."""

from __future__ import annotations

import os

import torch

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.dqn import DQN
from pixelq.agents.errors import InvalidCheckpoint, InvalidConfig, one_line
from pixelq.agents.pqn import PQN
from pixelq.agents.storage.checkpoint import read_description
from pixelq.agents.storage.pretrained import find_policy


def kind_of(config: AgentConfig) -> type[DQN] | type[PQN]:
    """Return the class of the agents with a configuration."""
    return PQN if config.algorithm == "pqn" else DQN


def load(path: str | os.PathLike[str], device: str | torch.device = "auto") -> DQN | PQN:
    """Load a checkpoint, the best (or else the latest) checkpoint of a run, or a pretrained policy, of either class.

    Args:
        path: The folder, or the name of a pretrained policy such as `demo`.
        device: `auto` for a GPU if there is one, or the name of a PyTorch device.

    Raises:
        InvalidCheckpoint: If it is missing or damaged, or its weights belong to another network.
        InvalidConfig: If there is no such device.
    """
    state, _ = read_description(find_policy(path))
    try:
        kind = kind_of(AgentConfig.from_dict(state["config"]))
    except (LookupError, TypeError, InvalidConfig) as error:
        raise InvalidCheckpoint(f"{path} does not describe an agent of this version: {one_line(error)}") from error
    return kind.load(path, device)

"""Which class of agent a configuration, or what was saved, is of."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.dqn import DQN
from pixelq.agents.pqn import PQN
from pixelq.agents.storage.checkpoint import read_description
from pixelq.agents.storage.pretrained import find_policy
from pixelq.agents.storage.validation import describing


def kind_of(config: AgentConfig) -> type[DQN] | type[PQN]:
    """Return the class of the agents with a configuration."""
    return PQN if config.algorithm == "pqn" else DQN


def load(
    path: str | os.PathLike[str],
    device: str | torch.device = "auto",
    *,
    encoder: nn.Module | None = None,
    **changes: Any,
) -> DQN | PQN:
    """Load a checkpoint, the best (or else the latest) checkpoint of a run, or a pretrained policy, of either class.

    The arguments are those of `DQN.load`.

    Raises:
        InvalidCheckpoint, InvalidConfig, MissingExtra: See `DQN.load`.
    """
    state, _ = read_description(find_policy(path))
    with describing(path):
        kind = kind_of(AgentConfig.from_dict(state["config"]))
    return kind.load(path, device, encoder=encoder, **changes)

"""The number of threads with which PyTorch computes on a CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pixelq.agents.agent import Agent
from pixelq.agents.config.machine_limits import usable_cores
from pixelq.agents.config.update_rows import update_rows
from pixelq.agents.runs.machine import threads_of

SMALL = 64e6
"""Multiplications of a forward pass over a batch below which threads wait for each other longer than they compute.

CartPole with 512 hidden units has 9 million, MinAtar's network 18, Nature DQN's 300.
"""
FROM_THE_START = torch.get_num_threads()
"""Number of threads before anyone has chosen another."""


def is_chosen_by_user() -> bool:
    """Return whether the user has chosen the number of threads, by the environment or `torch.set_num_threads`."""
    by_environment = any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))
    return by_environment or torch.get_num_threads() != FROM_THE_START


@contextmanager
def suitable_threads(agent: Agent, num_envs: int, run: Path | None) -> Iterator[None]:
    """Let PyTorch use as many threads as the agent's network is worth, while the context lasts.

    The number depends on nothing but the network, the rows of an update and the cores that the process may use, because
    sums are rounded otherwise with another one. A run that is resumed keeps its number, and a number that the user has
    chosen stays.

    Args:
        agent: The agent.
        num_envs: Number of environments that it learns in.
        run: Folder of the run that is resumed; None for a new one.
    """
    if agent.device.type != "cpu" or is_chosen_by_user():
        yield
        return
    before, cores = torch.get_num_threads(), usable_cores()
    threads = None if run is None else threads_of(run)
    if threads is None or threads > cores:
        threads = 1 if batch_multiplications(agent, num_envs) < SMALL else min(before, cores)
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def batch_multiplications(agent: Agent, num_envs: int) -> int:
    """Return the multiplications of one forward pass of the agent's network over a batch, or its largest minibatch.

    Args:
        agent: The agent.
        num_envs: Number of environments that it learns in, on which the size of a minibatch depends.
    """
    total = 0

    def add(module: nn.Module, _inputs: Any, out: Any) -> None:
        nonlocal total
        if isinstance(module, nn.LSTM):
            total += sum(weight.numel() for weight in module.parameters() if weight.dim() > 1)
        elif isinstance(out, torch.Tensor):  # a layer of an own encoder may return anything
            weight = module.weight
            assert isinstance(weight, torch.Tensor)
            total += weight.numel() * (out.numel() // len(weight))

    layers = [layer for layer in agent.network.modules() if isinstance(layer, nn.LSTM) or _multiplies(layer)]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    try:
        space = agent.observation_space
        agent.q_values(np.zeros((1, *space.shape), space.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return total * update_rows(agent.config, num_envs)


def _multiplies(layer: nn.Module) -> bool:
    weight = getattr(layer, "weight", None)
    return isinstance(weight, torch.Tensor) and weight.dim() > 1

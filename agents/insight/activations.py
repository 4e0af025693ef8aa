"""What a network computes inside: its last hidden layer, its first filters and its feature maps.

Read through forward hooks that are there for one call, so that learning and acting know nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelq.agents.acting.memory import Memory, joined
from pixelq.agents.acting.policy import Policy
from pixelq.networks import FractionHead

BATCH = 64  # observations at once, of which an implicit head makes 64 · K rows


@dataclass(frozen=True)
class FeatureMaps:
    """The maps of one convolutional layer at one observation."""

    name: str
    """The layer's number in the order of computation and its kernel, such as ``1: 8×8``."""
    maps: NDArray[np.float32]
    """[filters, height, width], after the ReLU where one follows at once or after a normalisation; else before any."""


def last_hidden(policy: Policy, obs: NDArray[Any], memories: Sequence[Memory] | None = None) -> NDArray[np.float32]:
    """Activations [B, H] of the last hidden layer at observations [B, *observation], without noise in noisy layers.

    They are what the last linear layer is given. A dueling head has two such layers: first come the units of the
    advantages, then those of the state's value, and H is twice the configuration's ``hidden``; else H is ``hidden``.
    An implicit head has activations for each fraction τ. They are averaged as its quantiles are for a q-value: over K
    midpoints (IQN), or weighted by the lengths of the proposed intervals (FQF).

    Args:
        policy: whose network it is.
        obs: the observations.
        memories: [B], what an agent with an LSTM remembered before each; None: they are episodes' first.

    Raises:
        ValueError: the observations do not fit the observation space, or there are none.
    """
    if not len(obs):
        raise ValueError("there is no observation; give at least one")
    return np.concatenate([_last_hidden(policy, *batch) for batch in in_batches(obs, memories)])


def in_batches(obs: NDArray[Any], memories: Sequence[Memory] | None) -> Iterator[tuple[NDArray[Any], Memory | None]]:
    """Observations [N, *observation] and what was remembered before each, a few at once, as ``q_values`` takes them."""
    for start in range(0, len(obs), BATCH):
        rows = slice(start, start + BATCH)
        yield obs[rows], None if memories is None else joined(memories[rows])


def first_filters(policy: Policy) -> NDArray[np.float32]:
    """Weights [out, in, height, width] of the first convolution; [0, 0, 0, 0] for an encoder without convolutions."""
    for layer in policy.network.encoder.modules():
        if isinstance(layer, nn.Conv2d):
            return _array(layer.weight)
    return np.zeros((0, 0, 0, 0), np.float32)


def feature_maps(policy: Policy, obs: NDArray[Any]) -> tuple[FeatureMaps, ...]:
    """Feature maps of every convolutional layer at one observation [*observation], in the order of computation.

    Empty for an encoder without convolutions.

    Raises:
        ValueError: the observation does not fit the observation space, or is a batch.
    """
    if np.shape(obs) != policy.observation_space.shape:
        raise ValueError(f"the observation has shape {np.shape(obs)}; it must be {policy.observation_space.shape}")
    convolutions: dict[nn.Module, nn.Conv2d] = {}  # by the layer whose output is shown
    for sequence in policy.network.encoder.modules():
        if isinstance(sequence, nn.Sequential):
            layers = list(sequence)
            for i, layer in enumerate(layers):
                if isinstance(layer, nn.Conv2d):
                    convolutions[_rectified(layers[i:])] = layer
    with _watched(convolutions) as passes:
        policy.q_values(obs)
    return tuple(
        FeatureMaps(f"{number}: {'×'.join(map(str, convolutions[layer].kernel_size))}", _array(through.output[0]))
        for number, (layer, through) in enumerate(passes.items(), start=1)
    )


def _last_hidden(policy: Policy, obs: NDArray[Any], memory: Memory | None) -> NDArray[np.float32]:
    streams = policy.network.head.streams
    head = policy.network.get_submodule("head")
    layers = [stream.out for stream in (streams.advantage, streams.state_value) if stream is not None]
    with _watched([head, *layers]) as passes:
        policy.q_values(obs, memory)
    hidden = torch.cat([passes[layer].input for layer in layers], -1)  # [B, H], or [B, K, H] with K fractions
    if isinstance(head, FractionHead):
        tau: Tensor = passes[head].output.fractions.tau  # [B, K + 1]
        hidden = (hidden * tau.diff(dim=-1).unsqueeze(-1)).sum(1)
    return _array(hidden.mean(1) if hidden.dim() == 3 else hidden)


def _rectified(layers: Sequence[nn.Module]) -> nn.Module:
    """The ReLU that follows the first of the layers at once or after a normalisation; else the first itself."""
    after = [layer for layer in layers[1:3] if not isinstance(layer, nn.GroupNorm)]
    return after[0] if after and isinstance(after[0], nn.ReLU) else layers[0]


class _Pass(NamedTuple):
    input: Tensor
    output: Any


@contextmanager
def _watched(layers: Iterable[nn.Module]) -> Iterator[dict[nn.Module, _Pass]]:
    """What goes through each of the layers while this lasts, the last time for each, in the order of computation."""
    passes: dict[nn.Module, _Pass] = {}

    def note(layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        passes[layer] = _Pass(arguments[0], output)

    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().float().cpu().contiguous().numpy().copy()

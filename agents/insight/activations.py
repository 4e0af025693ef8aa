"""Activations of a policy's network: its last hidden layer, the filters of its first layer and its feature maps.

They are read through forward hooks that last for one call, so learning and acting need no code for it.
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
from pixelq.networks.heads import streams_of

BATCH = 64
"""Observations in one forward pass; an implicit head makes 64 · K rows of them."""


@dataclass(frozen=True)
class FeatureMaps:
    """Feature maps of one convolutional layer at one observation."""

    name: str
    """Number of the layer in the order of computation, and its kernel, such as `1: 8×8`."""
    maps: NDArray[np.float32]
    """[filters, height, width], after the ReLU if one follows directly or after a normalisation; else before any."""


def last_hidden(policy: Policy, obs: NDArray[Any], memories: Sequence[Memory] | None = None) -> NDArray[np.float32]:
    """Return the activations [B, H] of the last hidden layer, computed without noise in noisy layers.

    These are the inputs of the last linear layer. A dueling head has two such layers; the units of the advantages come
    first, then those of the state's value, and H is twice the `hidden` of the configuration. Otherwise H is `hidden`.
    An implicit head has activations for each fraction τ. They are averaged as its quantiles are for a q-value: over K
    midpoints (IQN), or weighted by the lengths of the proposed intervals (FQF). Of a registered head without
    `ActionStreams` they are the features that it reads, the output of the encoder or the LSTM.

    Args:
        policy: The policy whose network is read.
        obs: Observations [B, *observation].
        memories: [B], the LSTM state before each observation; None if each is the first of an episode.

    Raises:
        ValueError: If the observations do not fit the observation space, or there are none.
    """
    if not len(obs):
        raise ValueError("obs must hold at least 1 observation, got 0")
    return np.concatenate([_last_hidden(policy, *batch) for batch in in_batches(obs, memories)])


def in_batches(obs: NDArray[Any], memories: Sequence[Memory] | None) -> Iterator[tuple[NDArray[Any], Memory | None]]:
    """Yield observations [N, *observation] and the memories before them in batches, as `Policy.q_values` takes them."""
    for start in range(0, len(obs), BATCH):
        rows = slice(start, start + BATCH)
        yield obs[rows], None if memories is None else joined(memories[rows])


def first_filters(policy: Policy) -> NDArray[np.float32]:
    """Return the weights [out, in, height, width] of the first convolution; [0, 0, 0, 0] if the encoder has none."""
    for layer in policy.network.encoder.modules():
        if isinstance(layer, nn.Conv2d):
            return _array(layer.weight)
    return np.zeros((0, 0, 0, 0), np.float32)


def feature_maps(policy: Policy, obs: NDArray[Any]) -> tuple[FeatureMaps, ...]:
    """Return the feature maps of every convolutional layer at one observation, in the order of computation.

    An encoder without convolutions has none.

    Args:
        policy: The policy whose network is read.
        obs: One observation [*observation].

    Raises:
        ValueError: If the observation does not fit the observation space, or is a batch.
    """
    if np.shape(obs) != policy.observation_space.shape:
        raise ValueError(f"the observation must have shape {policy.observation_space.shape}, got {np.shape(obs)}")
    convolutions: dict[nn.Module, nn.Conv2d] = {}  # the convolution of each layer whose output is shown
    for sequence in policy.network.encoder.modules():
        if isinstance(sequence, nn.Sequential):
            layers = list(sequence)
            for i, layer in enumerate(layers):
                if isinstance(layer, nn.Conv2d):
                    convolutions[_shown_layer(layers[i:])] = layer
    found = set(convolutions.values())
    # Outside of a sequence, what follows is not known.
    convolutions |= {
        conv: conv for conv in policy.network.encoder.modules() if isinstance(conv, nn.Conv2d) and conv not in found
    }
    with _hooked(convolutions) as calls:
        policy.q_values(obs)
    return tuple(
        FeatureMaps(f"{number}: {'×'.join(map(str, convolutions[layer].kernel_size))}", _array(call.output[0]))
        for number, (layer, call) in enumerate(calls.items(), start=1)
    )


def _last_hidden(policy: Policy, obs: NDArray[Any], memory: Memory | None) -> NDArray[np.float32]:
    """Return the activations of one batch; see `last_hidden`."""
    head = policy.network.get_submodule("head")
    streams = streams_of(policy.network.head)
    if streams is None:
        with _hooked([head]) as calls:
            policy.q_values(obs, memory)
        return _array(calls[head].input)
    layers = [stream.out for stream in (streams.advantage, streams.state_value) if stream is not None]
    with _hooked([head, *layers]) as calls:
        policy.q_values(obs, memory)
    hidden = torch.cat([calls[layer].input for layer in layers], -1)  # [B, H], or [B, K, H] with K fractions
    if isinstance(head, FractionHead):
        tau: Tensor = calls[head].output.fractions.tau  # [B, K + 1]
        hidden = (hidden * tau.diff(dim=-1).unsqueeze(-1)).sum(1)
    return _array(hidden.mean(1) if hidden.dim() == 3 else hidden)


def _shown_layer(layers: Sequence[nn.Module]) -> nn.Module:
    """Return the ReLU that follows the first layer directly or after a normalisation; the first layer if none does."""
    after = [layer for layer in layers[1:3] if not isinstance(layer, nn.GroupNorm)]
    return after[0] if after and isinstance(after[0], nn.ReLU) else layers[0]


class _Call(NamedTuple):
    """Input and output of a layer in a forward pass."""

    input: Tensor
    output: Any


@contextmanager
def _hooked(layers: Iterable[nn.Module]) -> Iterator[dict[nn.Module, _Call]]:
    """Record the last call of each layer while the context lasts, in the order of computation."""
    calls: dict[nn.Module, _Call] = {}

    def record(layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        calls[layer] = _Call(arguments[0], output)

    handles = [layer.register_forward_hook(record) for layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _array(tensor: Tensor) -> NDArray[np.float32]:
    """Return a copy of a tensor as an array on the CPU."""
    return tensor.detach().float().cpu().contiguous().numpy().copy()

"""The network that a configuration describes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.errors import InvalidConfig
from pixelq.agents.storage.validation import fitting
from pixelq.networks import (
    LSTM,
    ActionStreams,
    CategoricalHead,
    DrawnFrom,
    FractionHead,
    ImplicitHead,
    Init,
    QNetwork,
    QuantileHead,
    ScalarHead,
    ValueHead,
    make_encoder,
)


def make_network(
    observation_shape: tuple[int, ...], num_actions: int, config: AgentConfig, seed: int | None = None
) -> QNetwork:
    """Return the network that a configuration describes.

    Args:
        observation_shape: Shape of one observation.
        num_actions: Number of actions, A.
        config: Encoder, head and their options.
        seed: Seed of the initial weights; None draws them from PyTorch's global generator.

    Raises:
        InvalidConfig: If the encoder cannot read observations of that shape, or there is not enough memory.
    """
    if seed is not None:
        with DrawnFrom(torch.Generator().manual_seed(seed)):
            return make_network(observation_shape, num_actions, config)
    try:
        return _make_network(observation_shape, num_actions, config)
    except ValueError as error:
        raise InvalidConfig(str(error)) from error
    except RuntimeError as error:
        if "memory" not in str(error) and "Storage size" not in str(error):
            raise
        raise InvalidConfig("not enough memory for a network of that size; lower hidden, atoms or quantiles") from error


def check_weights(
    weights: Mapping[str, Tensor], observation_shape: tuple[int, ...], num_actions: int, config: AgentConfig
) -> None:
    """Check that weights belong to the network that `make_network` would return, without allocating it.

    Raises:
        InvalidConfig: If there is no such network.
        ValueError: If the weights belong to another network.
    """
    if num_actions < 1:
        raise ValueError(f"num_actions must be at least 1, got {num_actions}")
    with torch.device("meta"):
        network = make_network(observation_shape, num_actions, config)
    for name, like in network.state_dict().items():
        fitting(weights, name, like)


def _make_network(observation_shape: tuple[int, ...], num_actions: int, config: AgentConfig) -> QNetwork:
    encoder = make_encoder(
        config.encoder,
        observation_shape,
        hidden=config.hidden or (),
        width=config.encoder_width,
        spectral_norm=config.spectral_norm,
        adaptive_pool=config.adaptive_pool,
        layer_norm=config.layer_norm,
        init=_init(config),
    )
    for parameter in encoder.parameters():
        if parameter.dim() == 4:  # kernels in the same order as the images, so that no pass reorders them
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    if config.lstm is None:
        return QNetwork(encoder, make_head(encoder.out_features, num_actions, config))
    in_features = encoder.out_features + config.lstm_last_action * num_actions + config.lstm_last_reward
    return QNetwork(
        encoder,
        make_head(config.lstm, num_actions, config),
        LSTM(in_features, config.lstm),
        last_action=config.lstm_last_action,
        last_reward=config.lstm_last_reward,
    )


def make_head(in_features: int, num_actions: int, config: AgentConfig) -> ValueHead:
    """Return the value head that a configuration describes, for features [B, in_features]."""
    streams = ActionStreams(
        in_features,
        num_actions,
        outputs={"categorical": config.atoms, "quantile": config.quantiles}.get(config.head, 1),
        hidden=config.hidden,
        dueling=config.dueling,
        noisy_sigma=config.noisy_sigma if config.noisy else None,
        layer_norm=config.layer_norm,
        init=_init(config) or "torch",
    )
    match config.head:
        case "scalar":
            return ScalarHead(streams, loss=config.loss, rescaling=config.value_rescaling)
        case "categorical":
            return CategoricalHead(streams, config.v_min, config.v_max)
        case "quantile":
            return QuantileHead(streams, config.kappa)
        case "implicit":
            return ImplicitHead(
                streams,
                samples=config.tau_samples,
                target_samples=config.tau_samples_target,
                policy_samples=config.tau_samples_policy,
                cosines=config.cosines,
                kappa=config.kappa,
            )
        case "fqf":
            return FractionHead(
                streams,
                fractions=config.quantiles,
                entropy=config.fraction_entropy,
                cosines=config.cosines,
                kappa=config.kappa,
            )


def _init(config: AgentConfig) -> Init | None:
    """Return the initialisation of Dopamine's encoder, which depends on the head; None for other encoders."""
    if config.encoder != "dopamine":
        return None
    return "xavier" if config.head == "scalar" else "fan_in"

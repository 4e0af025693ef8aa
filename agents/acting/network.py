"""From a configuration to the network and the replay that it describes."""

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
    """The network that a configuration describes.

    Args:
        observation_shape: of one observation.
        num_actions: A.
        config: encoder, head and their options.
        seed: of the initial weights; None draws on from PyTorch's global generator.

    Raises:
        InvalidConfig: the encoder cannot take observations of that shape, or there is no memory for the network.
    """
    if seed is not None:
        with torch.random.fork_rng(devices=[]):  # initialisers draw from the global generator: lend it a seed
            torch.default_generator.manual_seed(seed)
            return make_network(observation_shape, num_actions, config)
    try:
        return _make_network(observation_shape, num_actions, config)
    except ValueError as error:
        raise InvalidConfig(str(error)) from error
    except RuntimeError as error:
        if "memory" not in str(error) and "Storage size" not in str(error):
            raise
        raise InvalidConfig("no memory for a network of that size; lower hidden, or what the head predicts") from error


def check_weights(
    weights: Mapping[str, Tensor], observation_shape: tuple[int, ...], num_actions: int, config: AgentConfig
) -> None:
    """Sees that weights are those of the network that ``make_network`` would make, without the memory for it.

    Raises:
        InvalidConfig: there is no such network.
        ValueError: the weights are of another.
    """
    if num_actions < 1:
        raise ValueError(f"{num_actions} actions are too few")
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
        if parameter.dim() == 4:  # kernels in the order of the images, so that nothing is reordered on the way
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
    """The value head that a configuration describes, for features [B, in_features]."""
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
    """Dopamine's initialisation goes with its encoder: one for DQN, another for distributions; None for the usual."""
    if config.encoder != "dopamine":
        return None
    return "xavier" if config.head == "scalar" else "fan_in"

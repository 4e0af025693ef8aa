"""The network that a configuration describes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from pixelq.agents.acting.own_parts import check_own_parts, make_own_encoder, make_own_head
from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.machine_limits import free_memory
from pixelq.agents.config.parts import BUILT_IN, is_own
from pixelq.agents.config.update_rows import least_num_envs, update_rows
from pixelq.agents.errors import InvalidConfig
from pixelq.agents.storage.validation import fitting
from pixelq.networks import (
    LSTM,
    ActionStreams,
    CategoricalHead,
    DrawnFrom,
    Encoder,
    FractionHead,
    ImplicitHead,
    Init,
    LayerNorm,
    QNetwork,
    QuantileHead,
    ScalarHead,
    ValueHead,
    make_encoder,
)

COPIES = {"dqn": 5, "pqn": 4}
"""Numbers that learning holds for each weight: itself, its gradient, two moments and a target network's copy."""


def make_network(
    observation_shape: tuple[int, ...],
    num_actions: int,
    config: AgentConfig,
    seed: int | None = None,
    *,
    is_pixels: bool = False,
    encoder: nn.Module | None = None,
) -> QNetwork:
    """Return the network that a configuration describes.

    Args:
        observation_shape: Shape of one observation.
        num_actions: Number of actions, A.
        config: Encoder, head and their options.
        seed: Seed of the initial weights; None draws them from PyTorch's global generator.
        is_pixels: Whether observations are uint8, and not float32, on which an own encoder is tried.
        encoder: Encoder that is handed over and copied; None for the one that the configuration names.

    Raises:
        InvalidConfig: If the encoder cannot read observations of that shape, an own part does not do what it must, or
            there is not enough memory.
    """
    drawn = nullcontext() if seed is None else DrawnFrom(torch.Generator().manual_seed(seed))
    try:
        with drawn:
            if is_own("encoder", config.encoder):
                made = make_own_encoder(observation_shape, config, is_pixels=is_pixels, module=encoder)
            else:
                made = _make_encoder(observation_shape, config)
            network = _make_network(made, num_actions, config)
        if is_own("encoder", config.encoder) or is_own("head", config.head):
            check_own_parts(network, observation_shape, num_actions, config, is_pixels=is_pixels)
        return network
    except ValueError as error:
        raise InvalidConfig(str(error)) from error
    except RuntimeError as error:
        if "memory" not in str(error) and "Storage size" not in str(error):
            raise
        raise InvalidConfig("not enough memory for a network of that size; lower hidden, atoms or quantiles") from error


def check_memory(
    observation_shape: tuple[int, ...],
    num_actions: int,
    config: AgentConfig,
    device: torch.device,
    *,
    learns: bool,
    num_envs: int | None = None,
) -> None:
    """Check that there is memory for a network and its updates, before any is taken.

    What is reckoned is the least that they take: the weights, their gradients, moments and copy, and the greatest
    arrays of a loss. Weights of own encoders and heads are not counted.

    Args:
        observation_shape, num_actions, config: See `make_network`.
        device: Device of the network.
        learns: Whether the network is also updated.
        num_envs: See `check_update_memory`.

    Raises:
        InvalidConfig: If there is not.
    """
    free = free_memory(device)
    weights = _count_weights(observation_shape, num_actions, config)
    size = None if weights is None else 4 * weights * (COPIES[config.algorithm] if learns else 1)
    if size is None or (free is not None and size > free):
        found = "" if size is None or free is None else f": {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
        raise InvalidConfig(
            f"not enough memory for a network of that size{found}; "
            "lower hidden, lstm, encoder_width, atoms or quantiles"
        )
    if learns:
        check_update_memory(observation_shape, num_actions, config, device, num_envs)


def check_update_memory(
    observation_shape: tuple[int, ...],
    num_actions: int,
    config: AgentConfig,
    device: torch.device,
    num_envs: int | None = None,
) -> None:
    """Check that there is memory for the greatest arrays of an update, before any is taken.

    Args:
        observation_shape, num_actions, config: See `make_network`.
        device: Device of the network.
        num_envs: Number of environments, on which the minibatches of a rollout depend; None for the fewest that do.

    Raises:
        InvalidConfig: If there is not.
    """
    free = free_memory(device)
    size = 4 * _count_loss(observation_shape, num_actions, config, num_envs)
    if free is None or size <= free:
        return
    names = {"categorical": "atoms", "implicit": "tau_samples", "scalar": "hidden"}.get(config.head, "quantiles")
    advice = f"lower batch_size or {names}"
    if config.algorithm == "pqn":
        fewer = "" if num_envs is None else "use fewer environments, "
        advice = f"{fewer}raise minibatches, or lower rollout_length or {names}"
    raise InvalidConfig(
        f"not enough memory for updates of that size: {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; {advice}"
    )


def learning_bytes(
    observation_shape: tuple[int, ...], num_actions: int, config: AgentConfig, num_envs: int | None = None
) -> int:
    """Return the least number of bytes that a network and its updates take, as `check_memory` reckons them.

    Args:
        observation_shape, num_actions, config: See `make_network`.
        num_envs: See `check_update_memory`.
    """
    weights = _count_weights(observation_shape, num_actions, config) or 0
    return 4 * (weights * COPIES[config.algorithm] + _count_loss(observation_shape, num_actions, config, num_envs))


def _count_weights(observation_shape: tuple[int, ...], num_actions: int, config: AgentConfig) -> int | None:
    """Return the number of a network's weights, without allocating them; None if it cannot be counted in 63 bits."""
    if is_own("encoder", config.encoder) or is_own("head", config.head):
        return 0  # their factories may do anything, and are called once
    # Spectral normalisation adds no weights, and takes time.
    plain = dataclasses.replace(config, spectral_norm=False)
    try:
        with torch.device("meta"):
            encoder = _make_encoder(observation_shape, plain)
            features = config.lstm or encoder.out_features
            parts = [
                encoder,
                _make_lstm(encoder.out_features, num_actions, plain),
                _make_streams(features, num_actions, plain),
            ]
    except ValueError as error:
        raise InvalidConfig(str(error)) from error
    except (RuntimeError, TypeError):  # PyTorch's, where a size overflows
        return None
    count = sum(weight.numel() for part in parts if part is not None for weight in part.parameters())
    inputs = {"implicit": config.cosines, "fqf": config.cosines + config.quantiles}  # of embedding and proposal
    return count + features * inputs.get(config.head, 0)


def _count_loss(
    observation_shape: tuple[int, ...], num_actions: int, config: AgentConfig, num_envs: int | None = None
) -> int:
    """Return how many numbers the greatest arrays of an update hold at least; `num_envs` as in `check_memory`."""
    learned = update_rows(config, least_num_envs(config) if num_envs is None else num_envs, burn_in=False)
    # Of each drawn step: samples of the online network, samples of the target, and their pairs.
    online, target = {
        "categorical": (config.atoms, config.atoms),
        "quantile": (config.quantiles, config.quantiles),
        "fqf": (config.quantiles, config.quantiles),
        "implicit": (config.tau_samples, config.tau_samples_target),
    }.get(config.head, (1, 1))
    if config.algorithm == "pqn":
        target = 0  # the returns are numbers, which need no target network
    outputs = num_actions * (online + target)
    hidden = config.hidden * (online if config.head in ("implicit", "fqf") else 1)
    return learned * (math.prod(observation_shape) + online * target + outputs + hidden)


def check_weights(
    weights: Mapping[str, Tensor], observation_shape: tuple[int, ...], num_actions: int, config: AgentConfig
) -> None:
    """Check that weights belong to the network that `make_network` would return, without allocating it.

    Nothing is checked of networks with own encoders or heads.

    Raises:
        InvalidConfig: If there is no such network.
        ValueError: If the weights belong to another network.
    """
    if num_actions < 1:
        raise ValueError(f"num_actions must be at least 1, got {num_actions}")
    if is_own("encoder", config.encoder) or is_own("head", config.head):
        return
    with torch.device("meta"):
        network = make_network(observation_shape, num_actions, config)
    for name, like in network.state_dict().items():
        fitting(weights, name, like)


def _make_network(encoder: Encoder, num_actions: int, config: AgentConfig) -> QNetwork:
    is_own_encoder = is_own("encoder", config.encoder)
    kernels = {layer.weight for layer in encoder.modules() if isinstance(layer, nn.Conv2d)} if is_own_encoder else ()
    for parameter in encoder.parameters():
        if parameter.dim() == 4 and (
            not is_own_encoder or parameter in kernels
        ):  # kernels in the same order as the images, so that no pass reorders them
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    if config.lstm is None:
        return QNetwork(encoder, make_head(encoder.out_features, num_actions, config))
    return QNetwork(
        encoder,
        make_head(config.lstm, num_actions, config),
        _make_lstm(encoder.out_features, num_actions, config),
        last_action=config.lstm_last_action,
        last_reward=config.lstm_last_reward,
    )


def _make_encoder(observation_shape: tuple[int, ...], config: AgentConfig) -> Encoder:
    return make_encoder(
        config.encoder,
        observation_shape,
        hidden=config.hidden or () if config.encoder_layers is None else (),
        layers=config.encoder_layers or (),
        width=config.encoder_width,
        spectral_norm=config.spectral_norm,
        adaptive_pool=config.adaptive_pool,
        layer_norm=_layer_norm(config),
        contrast_norm=config.contrast_norm,
        activation=config.activation,
        init=_encoder_init(config),
    )


def _make_lstm(in_features: int, num_actions: int, config: AgentConfig) -> LSTM | None:
    if config.lstm is None:
        return None
    return LSTM(in_features + config.lstm_last_action * num_actions + config.lstm_last_reward, config.lstm)


def _make_streams(in_features: int, num_actions: int, config: AgentConfig) -> ActionStreams:
    return ActionStreams(
        in_features,
        num_actions,
        outputs={"categorical": config.atoms, "quantile": config.quantiles}.get(config.head, 1),
        hidden=config.hidden,
        dueling=config.dueling,
        noisy_sigma=config.noisy_sigma if config.noisy else None,
        layer_norm=_layer_norm(config),
        activation=config.activation,
        init=_head_init(config),
    )


def make_head(in_features: int, num_actions: int, config: AgentConfig) -> ValueHead:
    """Return the value head that a configuration describes, for features [B, in_features]."""
    if is_own("head", config.head):
        return make_own_head(in_features, num_actions, config)
    streams = _make_streams(in_features, num_actions, config)
    match config.head:
        case "scalar":
            return ScalarHead(streams, loss=config.loss, rescaling=config.value_rescaling)
        case "categorical":
            return CategoricalHead(
                streams, config.v_min, config.v_max, loss=config.categorical_loss, sigma=config.hl_gauss_sigma
            )
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
        case _:
            raise InvalidConfig(f"head must be one of {', '.join(BUILT_IN['head'])}, got {config.head!r}")


def set_options(head: ValueHead, config: AgentConfig) -> None:
    """Set the options of a head that can be changed: those that do not shape its weights or what these mean."""
    match head:
        case ScalarHead():
            head.loss_kind = config.loss
        case QuantileHead():
            head.kappa = config.kappa
        case ImplicitHead():
            head.samples, head.target_samples = config.tau_samples, config.tau_samples_target
            head.policy_samples, head.kappa = config.tau_samples_policy, config.kappa
        case FractionHead():
            head.entropy, head.kappa = config.fraction_entropy, config.kappa


def _layer_norm(config: AgentConfig) -> LayerNorm:
    return "channels" if config.channel_norm else config.layer_norm


def _encoder_init(config: AgentConfig) -> Init | None:
    """Return the initialisation of the encoder; None for its own. Dopamine's depends on the head."""
    if config.initialization != "auto":
        return config.initialization
    if config.encoder != "dopamine":
        return None
    return "xavier" if config.head == "scalar" else "fan_in"


def _head_init(config: AgentConfig) -> Init:
    """Return the initialisation of the head's layers, which goes with the encoder's."""
    if config.initialization == "auto" and config.encoder in ("hadamax", "hadamax_deep"):
        return "he"
    return _encoder_init(config) or "torch"

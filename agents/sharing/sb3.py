"""DQN agents of stable-baselines3: read from its zips without unpickling anything, and written as such."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from pixelq.agents.acting.network import make_network
from pixelq.agents.acting.policy import MOST_ACTIONS, Policy
from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.dqn import DQN
from pixelq.agents.errors import InvalidCheckpoint, InvalidConfig, InvalidRun, UserError, one_line
from pixelq.agents.sharing.acting_network import ActingNetwork, Inputs, random_inputs
from pixelq.agents.sharing.export import Difference, compare
from pixelq.agents.storage.checkpoint import MOST_NETWORK
from pixelq.agents.storage.files import read_regular, replace_file, user_path
from pixelq.agents.storage.json_values import is_count, is_number
from pixelq.agents.storage.validation import observations
from pixelq.networks import MLP, NatureCNN
from pixelq.networks.encoders import image_layout

MOST_DATA = 2**28
"""Size of the largest description of an agent that is read, in bytes: last observations are in it, pickled."""
MOST_ENTRIES = 1000
"""Most entries of an archive."""
READ = {"gamma": "gamma", "batch_size": "batch_size", "buffer_size": "replay_capacity"}
READ |= {"learning_starts": "learning_starts", "exploration_final_eps": "epsilon_end", "n_steps": "n_step"}
READ |= {"max_grad_norm": "max_grad_norm", "learning_rate": "learning_rate"}
READ |= {"exploration_initial_eps": "epsilon_start", "target_update_interval": "target_update_every"}
"""Settings of stable-baselines3 that are taken over, and their names here."""
MOST_BUFFER = 100_000
"""Most steps in the replay of an exported agent, for which stable-baselines3 takes memory as soon as it is loaded."""
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types of weights that are read."""
CNN = ("features_extractor.cnn.0", "features_extractor.cnn.2", "features_extractor.cnn.4")
"""Convolutions of its `NatureCNN`."""


@dataclass(frozen=True)
class _Network:
    """What the weights of an agent of stable-baselines3 say of its network.

    Attributes:
        weights: Weights by their names in `policy.q_net`.
        is_cnn: Whether it begins with convolutions, as `CnnPolicy` does.
        widths: Widths of the dense layers before the last one.
        num_actions: Number of actions.
    """

    weights: Mapping[str, Tensor]
    is_cnn: bool
    widths: tuple[int, ...]
    num_actions: int


def load_sb3(
    file: str | os.PathLike[str],
    device: str | torch.device = "auto",
    *,
    env: str | None = None,
    protocol: str | None = None,
    env_arguments: Mapping[str, Any] | None = None,
    channels_last: bool = False,
) -> DQN:
    """Load a DQN of stable-baselines3 from its zip; nothing in it is unpickled.

    The agent has the q-values, and so the greedy actions, of the saved one. Of its settings, those in `READ` are the
    zip's, and all others have our defaults; its optimiser is new, and its target network a copy of the online one.

    Args:
        file: Zip that `stable_baselines3.DQN.save` wrote, of `CnnPolicy` or `MlpPolicy` with any `net_arch`.
        device: `auto` for a GPU if there is one, or the name of a PyTorch device.
        env: ID of the environment of its training, which the zip does not hold; `agent.save` keeps it, so that
            `pixelq evaluate` needs no other.
        protocol: Rules of that environment, such as `nature`; only Atari games depend on them.
        env_arguments: Further arguments of `pixelq.envs.make_vec` that make it.
        channels_last: Whether its images are [height, width, channels]. The zip has them channels-first in any case,
            and so has the agent by default, which takes either.

    Raises:
        InvalidCheckpoint: If the file is missing or damaged, or holds another agent than such a DQN.
        InvalidConfig: If there is no such device, or not enough memory.
    """
    path = user_path(file)
    with _reading(path):
        data, state = _read_zip(path)
        shape, dtype, is_scaled = _observations_of(data)
        _check_policy(data)
        network = _network_of(state, shape)
        config = _config_of(data, network)
        if channels_last:
            shape = _channels_last(shape, network)
        _check_shapes(network, config, shape)
    spaces = gymnasium.spaces.Box(*_bounds(dtype), shape, dtype.type), gymnasium.spaces.Discrete(network.num_actions)
    agent = DQN(*spaces, config, device=device)
    # Our networks divide all bytes by 255, its only those of images
    factor = 255.0 if dtype == np.uint8 and not is_scaled else 1.0
    with torch.no_grad():
        for (own_weight, own_bias), (weight, bias) in zip(_parameters(agent.network), _weights(network), strict=True):
            own_weight.copy_(weight * factor)
            own_bias.copy_(bias)
            factor = 1.0
    agent.learner.start_anew()
    agent.step = value if is_count(value := data.get("num_timesteps")) else 0
    agent.env_id, agent.protocol = env, protocol
    agent.env_arguments = dict(env_arguments or {})
    return agent


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what reading a zip raises into InvalidCheckpoint while the context lasts."""
    try:
        yield
    except OSError as error:
        raise InvalidCheckpoint(f"{path} cannot be read ({error.strerror or one_line(error)})") from error
    except InvalidCheckpoint as error:
        raise InvalidCheckpoint(f"{path} {error}") from error
    except UserError as error:
        raise InvalidCheckpoint(f"{path} has settings that no agent has here: {one_line(error)}") from error
    except Exception as error:  # of a damaged archive, PyTorch and zipfile raise errors of many classes
        what = f"{type(error).__name__}: {one_line(error):.200}"
        raise InvalidCheckpoint(f"{path} is no zip of stable-baselines3, or is damaged ({what})") from error


def _bounds(dtype: np.dtype[Any]) -> tuple[float, float]:
    if dtype.kind == "f":
        return -np.inf, np.inf
    return (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))


def _read_zip(path: Path) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Return what a zip says of its agent, in which pickles are no more than text, and its policy's weights."""
    with zipfile.ZipFile(io.BytesIO(read_regular(path, 2 * MOST_NETWORK))) as archive:
        names = archive.namelist()
        if len(names) > MOST_ENTRIES or not {"data", "policy.pth"} <= set(names):
            raise InvalidCheckpoint("is no zip of stable-baselines3; DQN.save(path) writes one")
        data = json.loads(_entry(archive, "data", MOST_DATA))
        weights = _entry(archive, "policy.pth", MOST_NETWORK)
    if not isinstance(data, dict):
        raise ValueError("data is no object")
    if not weights.startswith(b"PK\x03\x04"):  # PyTorch would read anything else in its older format
        raise ValueError("policy.pth is no archive of PyTorch's")
    with zipfile.ZipFile(io.BytesIO(weights)) as archive:  # PyTorch allocates what compressed entries claim
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("policy.pth is compressed")
        if sum(entry.file_size for entry in archive.infolist()) > len(weights):
            raise ValueError("policy.pth claims more than it holds")
    state = torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True)
    return data, state if isinstance(state, dict) else {}


def _entry(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    with archive.open(name) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{name} has more than {most:,} bytes")
    return data


def _observations_of(data: Mapping[str, Any]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Return shape and type of the observations, and whether they are images that are divided by 255."""
    space = data.get("observation_space")
    if not isinstance(space, dict) or not re.search(r"\bBox\b", str(space.get(":type:"))):
        kind = space.get(":type:") if isinstance(space, dict) else space
        raise InvalidCheckpoint(f"must have observations of a Box, got {kind!s:.80}")
    shape, dtype = observations({"shape": space.get("_shape", space.get("shape")), "dtype": space.get("dtype")})
    ends = [space.get(name) for name in ("low_repr", "high_repr")]
    is_image = dtype == np.uint8 and len(shape) == 3 and ends in (["0", "255"], ["0.0", "255.0"], [None, None])
    return shape, dtype, is_image and _policy_kwargs(data).get("normalize_images", True) is True


def _policy_kwargs(data: Mapping[str, Any]) -> dict[str, Any]:
    kwargs = data.get("policy_kwargs")
    return kwargs if isinstance(kwargs, dict) else {}


def _check_policy(data: Mapping[str, Any]) -> None:
    """Check what the weights do not show of a network: its activation, and that its parts are the library's own."""
    kwargs = _policy_kwargs(data)
    wanted = {"activation_fn": ("ReLU",), "features_extractor_class": ("NatureCNN", "FlattenExtractor")}
    for name, allowed in wanted.items():
        given = kwargs.get(name)
        if given is not None and not re.search(rf"\.({'|'.join(allowed)})'>$", str(given)):
            raise InvalidCheckpoint(f"must have {' or '.join(allowed)} as {name}, got {given!s:.80}")


def _network_of(state: Mapping[str, Tensor], shape: tuple[int, ...]) -> _Network:
    """Return the network whose weights a zip holds."""
    weights = {str(name)[len("q_net.") :]: each for name, each in state.items() if str(name).startswith("q_net.")}
    for name, each in weights.items():
        # One with strides of 0 could claim any size
        is_array = isinstance(each, Tensor) and each.device.type == "cpu" and each.dtype in FLOATS
        if not is_array or not each.is_contiguous():
            raise ValueError(f"{name:.80} is no array of numbers")
    dense: list[str] = []
    while f"q_net.{2 * len(dense)}.weight" in weights:
        dense.append(f"q_net.{2 * len(dense)}")
    is_cnn = f"{CNN[0]}.weight" in weights
    names = [*CNN, "features_extractor.linear.0"] if is_cnn else []
    expected = {f"{name}.{kind}" for name in (*names, *dense) for kind in ("weight", "bias")}
    if not dense or set(weights) != expected:
        raise InvalidCheckpoint("holds no DQN with CnnPolicy or MlpPolicy; other agents cannot be read")
    if is_cnn and (len(shape) != 3 or shape[2] < min(shape[:2])):
        raise InvalidCheckpoint(f"must have images [channels, height, width], got shape {[*shape]}")
    sizes = [weights[f"{name}.weight"].shape[0] for name in (*names[3:], *dense)]
    if sizes[-1] > MOST_ACTIONS:
        raise InvalidCheckpoint(f"must have at most {MOST_ACTIONS:,} actions, got {sizes[-1]:,}")
    return _Network(weights, is_cnn, tuple(sizes[:-1]), sizes[-1])


def _channels_last(shape: tuple[int, ...], network: _Network) -> tuple[int, ...]:
    """Return the shape of images [channels, height, width] with their channels last."""
    last = (*shape[1:], *shape[:1])
    if not network.is_cnn or image_layout(last) != "HWC":
        raise InvalidCheckpoint(
            "must be of CnnPolicy and of fewer channels than pixels, to be read with the channels last"
        )
    return last


def _weights(network: _Network) -> list[tuple[Tensor, Tensor]]:
    """Return weight and bias of all layers, from the observation on."""
    first = [*CNN, "features_extractor.linear.0"] if network.is_cnn else []
    names = [*first, *(f"q_net.{2 * i}" for i in range(len(network.weights) // 2 - len(first)))]
    return [(network.weights[f"{name}.weight"], network.weights[f"{name}.bias"]) for name in names]


def _check_shapes(network: _Network, config: AgentConfig, shape: tuple[int, ...]) -> None:
    """Check that weights have the shapes of the network that is made for them, before it takes memory."""
    with torch.device("meta"):
        like = make_network(shape, network.num_actions, config)
    for own, (weight, bias) in zip(_parameters(like), _weights(network), strict=True):
        if (weight.shape, bias.shape) != (own[0].shape, own[1].shape):
            raise ValueError(f"a layer must be {[*own[0].shape]} for {[*shape]}, got {[*weight.shape]}")


def _layers(network: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    """Return all layers of a plain network of ours, from the observation on."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]


def _parameters(network: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Return weight and bias of all layers of a plain network, from the observation on."""
    return [(layer.weight, layer.bias) for layer in _layers(network) if layer.bias is not None]


def _config_of(data: Mapping[str, Any], network: _Network) -> AgentConfig:
    """Return the configuration of an agent with such a network, and with the settings of a zip that it knows."""
    *before, hidden = network.widths or (0,)
    own = () if network.is_cnn or not network.widths else (hidden,)
    values: dict[str, Any] = {"encoder": "nature" if network.is_cnn else "mlp", "hidden": hidden}
    values["encoder_layers"] = None if tuple(before) == own else tuple(before)
    for theirs, ours in READ.items():
        given = data.get(theirs)
        if is_number(given) or is_count(given):
            values[ours] = max(given, 1) if ours in ("learning_starts", "n_step") else given
    return AgentConfig(**values)


def save_sb3(
    agent: Policy,
    file: str | os.PathLike[str],
    observation_space: gymnasium.Space[Any] | None = None,
    inputs: Iterable[Inputs] | None = None,
) -> Difference:
    """Write an agent as a zip that `stable_baselines3.DQN.load` plays, and return how far its q-values are.

    That is possible for a scalar head without dueling, noise, normalisation and memory on the encoder `nature` or
    `mlp`. The zip has no replay, and a new optimiser. Of the settings, it has the learning rate, γ, the batch size, the
    final ε and the capacity of the replay; the others are stable-baselines3's defaults, if it is trained on there.

    Args:
        agent: The agent.
        file: Path of the zip, which is replaced.
        observation_space: The environment's own space, with the bounds that `DQN.load(file, env=env)` compares; None
            for the agent's, which has none if it was loaded.
        inputs: What both read to be compared, as `played_inputs` yields it; None for random observations.

    Raises:
        InvalidConfig: If stable-baselines3 has no such network.
        InvalidRun: If the file cannot be written.
    """
    path = user_path(file)
    check_exportable(agent)
    network = ActingNetwork(agent)
    model, axes = _sb3_model(agent, observation_space or agent.observation_space)
    pairs = list(zip(_parameters(network.network), _parameters(model.policy.q_net), strict=True))
    # Our networks divide all bytes by 255, its only those of images
    is_unscaled = agent.observation_space.dtype == np.uint8 and len(agent.observation_space.shape) != 3
    with torch.no_grad():
        for i, ((own_weight, own_bias), (weight, bias)) in enumerate(pairs):
            weight.copy_(own_weight / 255.0 if is_unscaled and i == 0 else own_weight)
            bias.copy_(own_bias)
    model.policy.q_net_target.load_state_dict(model.policy.q_net.state_dict())

    def run(arguments: tuple[Tensor, ...]) -> list[Any]:
        with torch.no_grad():
            return [model.policy.q_net(arguments[0].permute(axes)).numpy()]

    import stable_baselines3

    program = f"stable-baselines3 {stable_baselines3.__version__}"
    difference = compare(network, run, program, random_inputs(agent) if inputs is None else inputs)
    zipped = io.BytesIO()
    model.save(zipped)
    try:
        replace_file(path, zipped.getvalue())
    except OSError as error:
        raise InvalidRun(f"{path} cannot be written ({error.strerror}); give another file") from error
    return difference


def check_exportable(agent: Policy) -> None:
    """Check that stable-baselines3 has a network like that of an agent.

    Raises:
        InvalidConfig: If not.
    """
    config, shape = agent.config, agent.observation_space.shape
    is_cnn, is_pixels = _is_cnn(agent), agent.observation_space.dtype == np.uint8
    reasons = {
        "parts of your own": config.has_own_parts,
        "an LSTM": config.lstm is not None,
        f"head {config.head}": config.head != "scalar",
        "dueling streams": config.dueling,
        "noisy layers": config.noisy,
        "value_rescaling": config.value_rescaling,
        "normalisation of layers": config.layer_norm or config.channel_norm,
        "contrast_norm": config.contrast_norm and is_cnn,
        f"activation {config.activation}": config.activation != "relu",
        f"encoder {config.encoder}": not is_cnn and not _is_mlp(agent),
        "action masks": agent.action_masks,
        "a CNN without a hidden layer": is_cnn and config.hidden == 0,
        f"observations {[*shape]} of {agent.observation_space.dtype}": (len(shape) == 3 and is_pixels) != is_cnn,
    }
    found = next((reason for reason, is_so in reasons.items() if is_so), None)
    if found is not None:
        raise InvalidConfig(
            f"stable-baselines3's DQN has no {found.removeprefix('a ').removeprefix('an ')}; export such an agent as "
            "onnx, or train with a scalar head on nature or mlp alone"
        )


def _is_cnn(agent: Policy) -> bool:
    return any(isinstance(each, NatureCNN) for each in agent.network.encoder.modules()) and (
        agent.config.encoder in ("auto", "nature")
    )


def _is_mlp(agent: Policy) -> bool:
    return isinstance(agent.network.encoder, MLP) or not any(
        isinstance(each, nn.Conv2d) for each in agent.network.encoder.modules()
    )


def _sb3_model(agent: Policy, space: gymnasium.Space[Any]) -> tuple[Any, tuple[int, ...]]:
    """Return a new DQN of stable-baselines3 for an agent, and the order in which it has an observation's axes."""
    import stable_baselines3

    config, is_cnn = agent.config, _is_cnn(agent)
    assert isinstance(space, gymnasium.spaces.Box)
    axes = tuple(range(1 + len(space.shape)))
    if is_cnn:
        axes = (0, 3, 1, 2) if image_layout(space.shape) == "HWC" else axes
        space = gymnasium.spaces.Box(0, 255, tuple(space.shape[axis - 1] for axis in axes[1:]), np.uint8)
    widths = [layer.out_features for layer in _layers(agent.network) if isinstance(layer, nn.Linear)][:-1]
    kwargs: dict[str, Any] = {"net_arch": widths[1:] if is_cnn else widths}
    if is_cnn:
        kwargs["features_extractor_kwargs"] = {"features_dim": widths[0]}
    model: Any = stable_baselines3.DQN(
        "CnnPolicy" if is_cnn else "MlpPolicy",
        None,  # type: ignore[arg-type]  # as its own `load` does
        learning_rate=config.value_at("learning_rate", agent.step),
        buffer_size=1,
        gamma=config.value_at("gamma", agent.step),
        batch_size=config.batch_size,
        exploration_final_eps=config.epsilon_end,
        policy_kwargs=kwargs,
        device="cpu",
        _init_setup_model=False,
    )
    model.observation_space, model.action_space, model.n_envs = space, agent.action_space, 1
    model._setup_model()
    model.buffer_size = min(config.replay_capacity, MOST_BUFFER)
    model.num_timesteps, model.exploration_rate = agent.step, config.epsilon_end
    return model, axes
